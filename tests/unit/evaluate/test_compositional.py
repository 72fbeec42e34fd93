"""SugarCrepe and SugarCrepe++ as they come with the package, and edits and pairs of a user."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.compositional import CATEGORIES, CATEGORIES_PP, read_sugarcrepe, read_sugarcrepe_pp
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.train.model import create_clip


class Lookup(Encoder):
    """An encoder that knows some texts and pictures by heart: answers can be worked out by hand."""

    def __init__(self, texts: dict[str, list[float]] | None = None) -> None:
        torch.manual_seed(0)
        super().__init__(*create_clip("micro"))
        self.known = texts

    def texts(self, texts: list[str]) -> torch.Tensor:
        if self.known is None:
            return super().texts(texts)
        return normalize(torch.tensor([self.known[text] for text in texts]), dim=-1)

    def batches(self, batches):
        if self.known is None:
            return super().batches(batches)
        # the mean colour of a picture is its feature
        return normalize(torch.cat([batch.mean((2, 3)) - batch.mean((1, 2, 3))[:, None] for batch in batches]), dim=-1)


def run(encoder: Encoder, task: str, root: Path | None = None):
    return run_tasks(Data(encoder, root and str(root)), [task], lambda name: None)[task]


def test_the_real_files_are_read_whole():
    rows = {category: read_sugarcrepe(category) for category in CATEGORIES}
    assert {c: len(found) for c, found in rows.items()} == {
        "add_att": 692, "add_obj": 2062, "replace_att": 788, "replace_obj": 1652, "replace_rel": 1406,
        "swap_att": 666, "swap_obj": 245,
    }  # fmt: skip
    assert sum(map(len, rows.values())) == 7511
    assert len({row.file for found in rows.values() for row in found}) == 1560
    pp = {category: read_sugarcrepe_pp(category) for category in CATEGORIES_PP}
    assert [len(found) for found in pp.values()] == [788, 1652, 1406, 666, 245]
    assert sum(map(len, pp.values())) == 4757
    everything = [row for found in (*rows.values(), *pp.values()) for row in found]
    assert all(row.caption and row.negative and row.file.endswith(".jpg") for row in everything)
    assert all(row.paraphrase for found in pp.values() for row in found)


def test_text_only_runs_on_every_row_without_pictures():
    found = run(Lookup(), "sugarcrepe_pp_tot")
    assert {name: score.n for name, score in found.items() if name != "mean"} == {
        c: len(read_sugarcrepe_pp(c)) for c in CATEGORIES_PP
    }
    # once by the published rule, on features encoded here
    encoder, rows = Lookup(), read_sugarcrepe_pp("swap_obj")
    p1, p2, n = (
        encoder.texts([getattr(row, f) for row in rows]).numpy() for f in ("caption", "paraphrase", "negative")
    )
    expected = [a @ b > a @ c and a @ b > b @ c for a, b, c in zip(p1, p2, n, strict=True)]
    assert found["swap_obj"].score == pytest.approx(np.mean(expected), abs=1.01 / 245)  # float order may break a tie
    assert found["mean"].score == pytest.approx(np.mean([found[c].score for c in CATEGORIES_PP]))
    assert found["mean"].n == 4757


def test_missing_pictures_are_named_with_what_to_download(tmp_path):
    for task in ("sugarcrepe", "sugarcrepe_pp"):
        with pytest.raises(UserError, match=r"val2017\.zip of cocodataset\.org"):
            run(Lookup(), task)
        with pytest.raises(UserError, match=f"there is no {tmp_path}/val2017"):
            run(Lookup(), task, tmp_path)
    (tmp_path / "val2017").mkdir()
    with pytest.raises(UserError, match=r"1560 of the pictures are not in .*val2017, e\.g\. 0000\d+\.jpg"):
        run(Lookup(), "sugarcrepe", tmp_path)


def test_sugarcrepe_counts_pictures_closer_to_their_caption(tmp_path):
    """Red pictures; every caption lies near red but for one category's, whose negatives do."""
    (tmp_path / "val2017").mkdir()
    texts: dict[str, list[float]] = {}
    for category in CATEGORIES:
        for row in read_sugarcrepe(category):
            Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "val2017" / row.file)
            texts.setdefault(row.caption, [1.0, 0, 0])
            texts[row.negative] = [1.0, -0.3, 0.0]
    wrong = {row.caption for row in read_sugarcrepe("swap_obj")}
    others = {row.caption for category in CATEGORIES[:-1] for row in read_sugarcrepe(category)}
    for caption in wrong - others:
        texts[caption] = [-1.0, 0, 0]
    found = run(Lookup(texts), "sugarcrepe", tmp_path)
    for category in CATEGORIES[:-1]:
        rows = read_sugarcrepe(category)
        red = np.array([2, -1, -1]) / 6**0.5
        near = [np.array(texts[r.caption]) @ red / np.linalg.norm(texts[r.caption]) for r in rows]
        far = [np.array(texts[r.negative]) @ red / np.linalg.norm(texts[r.negative]) for r in rows]
        assert found[category].score == pytest.approx(np.mean(np.array(near) > np.array(far)), abs=1e-9)
    assert found["swap_obj"].score < 0.1
    assert found["mean"].chance == 0.5


def test_edits_of_a_user(tmp_path):
    colours = {"red": (255, 0, 0), "green": (0, 255, 0)}
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    texts = {"red": [1.0, 0, 0], "green": [0, 1.0, 0]}
    rows = ["image\tcaption\tnegative\tedit", "red.png\tred\tgreen\tcolour", "green.png\tred\tgreen\tcolour",
            "green.png\tgreen\tred\tsize"]  # fmt: skip
    (tmp_path / "edits.tsv").write_text("\n".join(rows))
    found = run(Lookup(texts), f"edits:{tmp_path / 'edits.tsv'}")
    assert {name: score.score for name, score in found.items()} == {"mean": 0.75, "colour": 0.5, "size": 1.0}
    assert Counter(score.n for score in found.values()) == {3: 1, 2: 1, 1: 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image\ttext\nx.png\ta", "caption, negative is missing"),
        ("image\tcaption\tnegative\nx.png\ta\t", "line 2: one of image, caption, negative is empty"),
        ("image\tcaption\tnegative\n", "no rows"),
        ("image\tcaption\tnegative\nx.png\ta\tb\n", r"there is no picture .*x\.png"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, message):
    (tmp_path / "edits.tsv").write_text(content)
    with pytest.raises(UserError, match=message):
        run(Lookup({"a": [1, 0, 0], "b": [0, 1, 0]}), f"edits:{tmp_path / 'edits.tsv'}")
