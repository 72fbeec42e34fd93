"""A model config of the user's own, given by the path of a JSON file in open_clip's format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.model_size import model_size
from polygen_stream.checkpoints import config_hash, read_meta
from polygen_stream.config import curriculum_of, dump_config, load_config
from polygen_stream.evaluate.encoder import load_encoder
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip, image_size, load_clip
from polygen_stream.train.optim import build_optimizer

TRANSFORMERS = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "my_clip.json"
    path.parent.mkdir()
    path.write_text(json.dumps(TRANSFORMERS))
    return path


def test_it_is_built_as_open_clip_builds_its_own(file: Path):
    model, tokenizer = create_clip(str(file))
    assert image_size(model) == 32 and tokenizer(["a red cup"]).shape == (1, 24)
    assert model.eval().encode_image(torch.rand(2, 3, 32, 32)).shape == (2, 48)
    states = []
    for name in (file, file):
        torch.manual_seed(5)
        states.append(create_clip(str(name))[0].state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_file_may_have_the_name_of_a_model_of_open_clip(file: Path):
    other = file.rename(file.with_name("ViT-B-32.json"))
    model, _ = create_clip(str(other))
    assert model.visual.output_dim == 48
    assert create_clip("ViT-B-32")[0].visual.output_dim == 512


def test_the_file_that_open_clip_leaves_beside_its_weights_will_do(tmp_path: Path):
    path = tmp_path / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": TRANSFORMERS, "preprocess_cfg": {}}))
    assert create_clip(str(path))[0].visual.output_dim == 48


def test_paths_are_made_absolute_and_memory_is_planned(file: Path, monkeypatch: pytest.MonkeyPatch):
    (file.parent / "run.toml").write_text('[train]\nmodel = "my_clip.json"\n')
    config = load_config(file.parent / "run.toml")
    assert config.train.model == str(file)
    monkeypatch.chdir(file.parent)
    assert load_config(None, ["--train.model", "./my_clip.json"]).train.model == str(file)
    size, parameters = model_size(str(file)), sum(p.numel() for p in create_clip(str(file))[0].parameters())
    assert size is not None and size.parameters == pytest.approx(parameters, rel=0.01)


def test_a_checkpoint_is_evaluated_after_the_file_has_gone(file: Path, tmp_path: Path):
    config = load_config(None, {"train.model": str(file)})
    model, tokenizer = create_clip(str(file))
    run_dir = tmp_path / "run"
    folder = save_checkpoint(
        run_dir, step=0, final=True, config=config, model=model, optimizer=build_optimizer(model, config.train),
        curriculum=curriculum_of(config).state_dict(), data={}, model_config=TRANSFORMERS,
    )  # fmt: skip
    dump_config(config, run_dir / "config.toml")
    assert read_meta(folder)["model"] == "my_clip" and read_meta(folder)["model_config"] == TRANSFORMERS
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({name: t.contiguous() for name, t in model.state_dict().items()}, weights)
    given = load_encoder(str(file), str(weights))  # as `evaluate ./my_clip.json --pretrained FILE` names it
    moved = config_hash(load_config(None, {"train.model": str(file.rename(tmp_path / "my_clip.json"))}))
    assert moved == config_hash(config) != config_hash(load_config())
    loaded, again = load_clip(folder)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    run = load_encoder(str(run_dir))
    assert torch.equal(again(["a red cup"]), tokenizer(["a red cup"]))
    assert torch.allclose(run.images(pictures), load_encoder(str(folder)).images(pictures))
    assert torch.allclose(run.texts(["a red cup"]), given.texts(["a red cup"]))
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no train.model .*my_clip.json"),
        ("{", "my_clip.json is not JSON"),
        ("[]", "my_clip.json is not a model config of open_clip: it has no embed_dim, vision_cfg, text_cfg"),
        (json.dumps({**TRANSFORMERS, "embed_dim": "wide"}), "my_clip.json': open_clip cannot build this model"),
        (
            json.dumps({**TRANSFORMERS, "text_cfg": {"width": 64, "depth": 3}}),
            "my_clip.json': open_clip cannot build this model: TypeError: .*depth",
        ),
        (
            json.dumps({**TRANSFORMERS, "text_cfg": {"hf_model_name": "roberta-base"}}),
            "my_clip.json' .*Hugging Face hub",
        ),
    ],
    ids=["absent", "no JSON", "a list", "a wrong type", "a wrong key", "from the hub"],
)
def test_a_config_that_cannot_be_used_is_named(file: Path, text: str | None, told: str):
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=told):
        create_clip(str(file))
