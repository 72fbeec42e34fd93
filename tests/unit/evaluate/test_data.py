"""Features of a user's data: what is noted beside the scores, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.train.model import create_clip

LONG = " ".join(["there is a very small picture of a little brown wooden table in a large old kitchen with many"] * 2)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for number, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (60 * number, 0, 200)).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notes(encoder: Encoder, task: str, name: str) -> str:
    data = Data(encoder)
    run_tasks(data, [task], lambda name: None)
    return "; ".join(data.read[name])


def test_edits_behind_the_context_are_said(encoder, folder):
    rows = [f"a/0.png\t{LONG} and a cat\t{LONG} and a dog", "a/1.png\tA Cat\ta cat", "b/0.png\ta cat\ta dog"]
    Path("t.tsv").write_text("\n".join(["image\tcaption\tnegative", *rows]))
    said = notes(encoder, "edits:t.tsv", "t.tsv")
    assert "2 of 6 texts are longer than the model's context of 32 and were cut" in said
    assert "in 2 of 3 rows caption and negative have the same tokens, which counts as wrong" in said


def test_pairs_behind_the_context_are_said(encoder, folder):
    Path("t.tsv").write_text(
        f"image_0\tcaption_0\timage_1\tcaption_1\na/0.png\t{LONG} and a cat\tb/0.png\t{LONG} and a dog\n"
    )
    said = notes(encoder, "pairs:t.tsv", "t.tsv")
    assert "2 of 2 texts are longer" in said and "in 1 of 1 rows both captions have the same tokens" in said


def test_captions_behind_the_context_are_said(encoder, folder):
    Path("t.txt").write_text(f"image\tcaption\na/0.png\t{LONG} cat\nb/0.png\t{LONG} dog\nb/1.png\ta dog\n")
    said = notes(encoder, "retrieval:t.txt", "t.txt")
    assert "1 captions have the same tokens as another one" in said and "2 of 3 texts are longer" in said


def test_short_captions_are_not_spoken_of(encoder, folder):
    Path("t.tsv").write_text("image\tcaption\na/0.png\ta cat\nb/0.png\ta dog\n")
    assert notes(encoder, "retrieval:t.tsv", "t.tsv") == "2 rows of t.tsv; 2 pictures"


def test_classes_behind_the_context_are_refused_and_some_of_them_said(encoder, folder):
    prompts = folder / "zeroshot_classification_templates.txt"
    prompts.write_text(f"{LONG} {{c}}")
    with pytest.raises(UserError, match="the prompts of all classes have the same tokens"):
        notes(encoder, f"zero_shot:{folder}", str(folder))
    prompts.unlink()
    (folder / "a").rename(folder / f"{LONG} x"[-200:])
    (folder / "c").mkdir()
    (folder / "b" / "1.png").rename(folder / "c" / "1.png")
    (folder / "c").rename(folder / f"{LONG} y"[-200:])
    assert "have the same tokens, and none of these classes wins" in notes(encoder, f"zero_shot:{folder}", str(folder))


def test_features_that_are_no_numbers_are_said(folder):
    model, tokenizer = create_clip("micro")
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.fill_(torch.nan)
    said = notes(Encoder(model.eval(), tokenizer), f"zero_shot:{folder}", str(folder))
    assert "the model gives no numbers for 4 pictures, which count as wrong" in said


def split(folder: Path, train: dict[str, int], test: dict[str, int]) -> str:
    for name, classes in (("train", train), ("test", test)):
        for label, (noun, count) in enumerate(classes.items()):
            (folder / name / noun).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (90 * label, 10 * i, 0)).save(folder / name / noun / f"{i}.png")
    return str(folder)


def test_a_probe_knows_its_classes_by_name(encoder, tmp_path):
    name = split(tmp_path / "own", {"apple": 6, "banana": 6, "cherry": 6}, {})
    (tmp_path / "own" / "test").mkdir()
    for noun in ("banana", "cherry"):
        (tmp_path / "own" / "test" / noun).symlink_to(tmp_path / "own" / "train" / noun)
    data = Data(encoder)
    found = run_tasks(data, [f"linear_probe:{name}", f"few_shot:{name}"], lambda name: None)
    assert found[f"linear_probe:{name}"]["acc1"].score > 0.8 and found[f"few_shot:{name}"]["5_shot"].score > 0.8
    assert any("no picture of apple" in line for line in data.read[name])


@pytest.mark.parametrize(
    ("task", "train", "test", "message"),
    [
        ("linear_probe", {"a": 1, "b": 1, "c": 3}, {"a": 1, "b": 1, "c": 1}, "5 pictures of 3 classes are too few"),
        ("linear_probe", {"a": 6, "b": 1}, {"a": 1, "b": 1}, "7 pictures of 2 classes are too few for training, 1 of"),
        ("few_shot", {"a": 6, "b": 4}, {"a": 1, "b": 1}, "the class b has 4 pictures for training, and 5 are needed"),
        ("few_shot", {"a": 6, "b": 6}, {"a": 1, "c": 1}, "has pictures of c for testing and none for training"),
        ("zero_shot", {}, {"a": 1}, "has one class, a, and no other to tell it from"),
        ("linear_probe", {"a": 6}, {"a": 1}, "has one class, a, and no other to tell it from"),
    ],
)
def test_too_little_for_a_task_is_one_line(encoder, tmp_path, task, train, test, message):
    name = split(tmp_path / "own", train, test)
    with pytest.raises(UserError, match=message) as problem:
        run_tasks(Data(encoder), [f"{task}:{name}"], lambda name: None)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_by_workers_too(encoder, folder, workers):
    (folder / "b" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^cannot read .*b/1\.png as a picture: it is in no format"):
        Data(encoder, workers=workers).labelled(str(folder))


WORKERS = """
import resource, sys
import torch
from polygen_stream.evaluate.batches import read_batches

class Pictures(torch.utils.data.Dataset):
    def __len__(self): return 600
    def __getitem__(self, index): return torch.full((3, 32, 32), float(index)), index

# Shared memory is files in /dev/shm: none can be larger than this, as where /dev/shm is full.
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
seen = [int(p[0, 0, 0, 0]) for p, _ in read_batches(Pictures(), "own", 2)]
sys.exit(seen != [0, 256, 512])
"""


def test_workers_need_no_shared_memory():
    assert subprocess.run([sys.executable, "-c", WORKERS], timeout=100).returncode == 0
