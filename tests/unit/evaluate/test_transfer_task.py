"""The task `transfer`, on a folder that is made here: what it scores, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor
from transfer_pictures import angle, paint_pictures
from typer.testing import CliRunner

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.evaluate import evaluate_model
from polygen_stream.evaluate.check import check_tasks
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.micro_suite import thing_prompts
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.evaluate.transfer.folder import RECORD
from polygen_stream.evaluate.transfer.picture_list import STYLES, read_picture_list
from polygen_stream.train.model import create_clip

PICTURES = read_picture_list()


class KnowsColours(nn.Module):
    """A CLIP that takes a picture for the thing whose place on the circle of hues its mean colour has."""

    def __init__(self, tokenizer) -> None:
        super().__init__()
        self.visual = nn.Identity()
        self.visual.image_size = 4
        self.known = {
            tuple(row.tolist()): thing
            for thing, prompts in enumerate(thing_prompts())
            for row in tokenizer(prompts)
        }  # fmt: skip

    def encode_image(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))[:, :2] * 255 - 128

    def encode_text(self, tokens: Tensor) -> Tensor:
        angles = torch.tensor([angle(self.known[tuple(row.tolist())]) for row in tokens])
        return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    _, tokenizer = create_clip("micro")
    return Encoder(KnowsColours(tokenizer), tokenizer, transform=to_tensor)


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Path:
    """Every picture of the list in its thing's colour, but the houses in the trees'."""
    return paint_pictures(tmp_path_factory.mktemp("painted"))


@pytest.fixture
def folder(painted, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(painted, tmp_path / "pictures")


def test_every_picture_is_asked_for_its_own_thing(encoder, painted):
    data = Data(encoder)
    [scores] = run_tasks(data, [f"transfer:{painted}"], lambda name: None).values()
    right = data.correct[str(painted)]
    assert right == {each.file: each.thing != "house" for each in PICTURES}
    assert scores["acc1"].score == 23 / 24 and scores["acc1"].n == 432 and scores["acc1"].chance == 1 / 24
    assert scores["acc1"].low < 23 / 24 < scores["acc1"].high < 1
    assert scores["acc5"].score == 1 and scores["acc5"].chance == 5 / 24
    for style in STYLES:
        own = [right[each.file] for each in PICTURES if each.package.style == style]
        assert (scores[f"acc1_{style}"].n, scores[f"acc1_{style}"].score) == (len(own), sum(own) / len(own))
    assert data.read[str(painted)] == ["432 pictures of 24 things"]


def test_without_a_name_the_default_folder_is_asked_about(encoder, painted, monkeypatch, tmp_path):
    monkeypatch.setenv("POLYGEN_STREAM_PICTURES", str(painted))
    data = Data(encoder)
    [scores] = run_tasks(data, ["transfer"], lambda name: None).values()
    assert scores["acc1"].score == 23 / 24 and data.read["transfer"] == ["432 pictures of 24 things"]
    monkeypatch.delenv("POLYGEN_STREAM_PICTURES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "polygen-stream" / "pictures"
    with pytest.raises(UserError, match=f"no folder {folder}: make it with `polygen-stream fetch-pictures {folder}`"):
        check_tasks(["transfer"], None)


def test_the_command_keeps_the_answer_to_every_picture(encoder, painted, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate_model, "load_encoder", lambda *_: encoder)
    words = ["evaluate", "ViT-B-32", "--pretrained", "openai", "--tasks", f"transfer:{painted}"]
    done = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "scores.json")])
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "scores.json").read_text())["correct"][str(painted)]
    assert len(kept) == 432 and sum(kept.values()) == 414 and not kept["house/twemoji--house.png"]


def refused(encoder: Encoder, folder: Path) -> str:
    with pytest.raises(UserError) as problem:
        run_tasks(Data(encoder), [f"transfer:{folder}"], lambda name: None)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_a_folder_that_is_not_the_lists_is_refused(encoder, folder, tmp_path):
    assert "make it with `polygen-stream fetch-pictures" in refused(encoder, tmp_path / "nowhere")
    assert f"has no {RECORD}" in refused(encoder, tmp_path)
    extra = folder / "cat" / "mine.png"
    Image.new("RGB", (4, 4)).save(extra)
    assert "cat/mine.png is not listed" in refused(encoder, folder)
    extra.unlink()
    file = folder / "cat" / "twemoji--cat-face.png"
    Image.new("RGB", (4, 4)).save(file)
    assert "cat/twemoji--cat-face.png is not the picture that was made" in refused(encoder, folder)
    file.unlink()
    assert "cat/twemoji--cat-face.png is missing" in refused(encoder, folder)


def test_pictures_of_another_list_are_refused(encoder, folder):
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "list": "0" * 64}))
    said = refused(encoder, folder)
    assert "another version's list (000000000000..., this one's is " in said and PICTURES.digest[:12] in said
