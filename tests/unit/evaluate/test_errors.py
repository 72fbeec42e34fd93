"""What `evaluate` says of models, tasks and datasets that it cannot use: one line, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.config import RunConfig
from polygen_stream.evaluate import standard_data
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import load_encoder
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.manual_seed(0)
    config = RunConfig()
    model, _ = create_clip("micro")
    optimizer = build_optimizer(model, config.train)
    return save_checkpoint(
        tmp_path / "run", step=3, final=True, config=config, model=model, optimizer=optimizer, curriculum={}, data={}
    )


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert isinstance(result.exception, UserError), result.output
    message = str(result.exception)
    assert "\n" not in message
    return message


def test_checkpoints_that_are_none(tmp_path, checkpoint):
    assert "is not a checkpoint (no meta.json)" in refused(tmp_path)
    assert "there is no checkpoint or run folder" in refused(tmp_path / "nowhere")
    assert "is a file" in refused(checkpoint / "model.safetensors")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot use" in (said := refused(checkpoint)) and "model.safetensors" in said
    (checkpoint / "meta.json").write_text("{")
    assert "it is not JSON" in refused(checkpoint)


def test_a_run_folder_means_its_last_checkpoint(checkpoint):
    own, same = load_encoder(str(checkpoint)), load_encoder(str(checkpoint.parent.parent))
    assert torch.equal(own.texts(["a red house"]), same.texts(["a red house"]))


def test_weights_of_other_models(tmp_path, checkpoint):
    foreign, truncated = tmp_path / "foreign.pt", tmp_path / "truncated.safetensors"
    torch.save({"weight": torch.zeros(3)}, foreign)
    truncated.write_bytes((checkpoint / "model.safetensors").read_bytes()[:5000])
    assert "cannot use" in (said := refused("micro", "--pretrained", foreign)) and "micro" in said
    assert "cannot use" in refused("micro", "--pretrained", truncated)
    assert "did you mean" in refused("ViT-B-23", "--pretrained", foreign)
    assert "is no file" in refused("ViT-B-32", "--pretrained", "laion9b")
    assert "give its weights with --pretrained" in refused("ViT-B-32")


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_weights_are_no_way_to_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pt")
    assert "cannot use" in refused("micro", "--pretrained", tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("zeroshot", "did you mean zero_shot"),
        ("retrieval", "task retrieval needs a dataset"),
        ("zero_shot:cifar10", "say where with --data DIR"),
        ("micro:train", "splits unseen"),
        ("retrieval:nowhere.tsv", "there is no file nowhere.tsv"),
    ],
)
def test_tasks_that_cannot_run(checkpoint, task, message):
    assert message in refused(checkpoint, "--tasks", task)


def test_datasets_that_are_not_there(tmp_path, checkpoint):
    data = Data(load_encoder(str(checkpoint)), str(tmp_path))

    def said(task: str) -> str:
        with pytest.raises(UserError) as problem:
            run_tasks(data, [task], lambda name: None)
        assert "\n" not in str(problem.value)
        return str(problem.value)

    assert f"there is no {tmp_path}/cifar10" in said("zero_shot:cifar10")
    assert "mehdidc/retrieval_annotations" in said("retrieval:mscoco_captions")
    (tmp_path / "mscoco_captions" / "val2014").mkdir(parents=True)
    assert "coco_test_karpathy.json" in said("retrieval:mscoco_captions")
    (tmp_path / "cifar10").mkdir()
    assert "not found or corrupted" in said("zero_shot:cifar10")
    (tmp_path / "cifar11").mkdir()
    assert "did you mean cifar10" in said("zero_shot:cifar11")
    (tmp_path / "fashion_mnist").mkdir()
    assert "there is no t10k-images-idx3-ubyte[.gz]" in said("zero_shot:fashion_mnist")
    (tmp_path / "eurosat").mkdir()
    assert "wds/vtab/eurosat" in said("linear_probe:eurosat")
    assert "cifar10 has no captions" in said("retrieval:cifar10")


def test_folders_without_what_a_task_needs(tmp_path, checkpoint):
    (tmp_path / "own" / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "own" / "train" / "cat" / "x.png")
    assert "has no folder test/" in refused(checkpoint, "--tasks", f"linear_probe:{tmp_path / 'own'}")
    (tmp_path / "own" / "train").rename(tmp_path / "own" / "test")
    assert "has no folder train/" in refused(checkpoint, "--tasks", f"linear_probe:{tmp_path / 'own'}")
    (tmp_path / "own" / "test" / "cat" / "x.png").write_bytes(b"no picture")
    assert "cannot read" in refused(checkpoint, "--tasks", f"zero_shot:{tmp_path / 'own'}", "--workers", 1)
    assert "cannot write" in refused(checkpoint, "--json", tmp_path / "nowhere" / "scores.json")


def test_url_templates_are_for_webdatasets():
    assert standard_data.dataset_folder("wds/vtab/pets", "https://x.org/wds_{dataset_cleaned}/main") == (
        "https://x.org/wds_vtab-pets/main"
    )
    with pytest.raises(UserError, match="say wds/cifar10"):
        standard_data.dataset_folder("cifar10", "https://x.org/{dataset_cleaned}")
