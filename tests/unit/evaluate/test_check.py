"""Tasks that cannot be scored are refused before there is a model, in the words in which `evaluate` refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.check import CHECKS, check_tasks
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.tasks import TASKS, run_tasks


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """pictures/ with two classes, two pictures of each for testing and for training, but of `new`; and tables."""
    for name in ("test/a/0", "test/a/1", "test/b/0", "test/new/0", "train/a/0", "train/b/0"):
        file = tmp_path / "pictures" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (60, 0, 200)).save(file)
    few = tmp_path / "few"
    (few / "train").mkdir(parents=True)
    for name in ("test/a/0", "test/b/0", "train/a/0", "train/b/0"):
        (few / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (8, 8), (60, 0, 200)).save(few / f"{name}.png")
    (tmp_path / "one" / "a").mkdir(parents=True)
    (tmp_path / "val2017").mkdir()
    rows = {
        "edits.tsv": "image\tcaption\tnegative\nfew/test/a/0.png\ta cat\ta dog\n",
        "same.tsv": "image\tcaption\tnegative\nfew/test/a/0.png\ta cat\ta cat\n",
        "lost.tsv": "image\tcaption\nnowhere.png\ta cat\n",
        "captions.tsv": "image\tcaption\nfew/test/a/0.png\ta cat\nfew/test/b/0.png\ta dog\n",
        "pairs.tsv": "image_0\tcaption_0\timage_1\tcaption_1\nfew/test/a/0.png\ta cat\tfew/test/b/0.png\ta dog\n",
    }
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_task_has_a_check():
    assert CHECKS.keys() == TASKS.keys()


@pytest.mark.parametrize(
    "task",
    [
        "zero_shoot:pictures", "zero_shot", "zero_shot:nowhere", "zero_shot:one", "zero_shot:edits.tsv",
        "linear_probe:one", "linear_probe:pictures", "few_shot:few", "retrieval:few", "retrieval:lost.tsv",
        "retrieval:none.tsv", "edits:same.tsv", "edits:captions.tsv", "pairs:edits.tsv", "sugarcrepe",
        "sugarcrepe:val2017", "sugarcrepe_pp:nowhere", "sugarcrepe_pp_tot:few", "micro:unheard",
    ],
)  # fmt: skip
def test_what_evaluate_refuses_is_refused_in_its_words(folder, encoder, task):
    with pytest.raises(UserError) as theirs:
        run_tasks(Data(encoder), [task], lambda name: None)
    with pytest.raises(UserError) as ours:
        check_tasks(["micro", task], None)
    assert str(ours.value) == str(theirs.value)


def test_what_can_be_scored_passes_and_no_picture_is_opened(folder, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("a picture was opened"))
    check_tasks(
        ["zero_shot:pictures", "linear_probe:few", "retrieval:captions.tsv", "edits:edits.tsv", "pairs:pairs.tsv",
         "sugarcrepe_pp_tot", "micro:seen", "zero_shot:micro"],
        None,
    )  # fmt: skip
