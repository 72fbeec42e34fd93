"""A run of parts from outside the package, through the public command, from a directory of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from own_parts import write_parts
from own_recipe import own_recipe

from polygen_stream.base.jsonl import read_jsonl

MODEL = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
SMALL = {
    "generators.backend": "eager",
    "generators.batch": "8",
    "captions.target": "40",
    "ring.slots": "192",
    "ring.min_fill": "12",
    "train.batch": "12",
    "train.steps": "20",
    "train.warmup": "4",
    "train.checkpoint_every": "20",
    "evaluate.every": "0",
    "evaluate.images_per_thing": "1",
}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polygen_stream", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's directory: recipe with weights, model config, a module of parts, a run config."""
    folder = tmp_path_factory.mktemp("mine")
    own_recipe(folder / "recipes")
    (folder / "my_clip.json").write_text(json.dumps(MODEL))
    write_parts(folder)
    (folder / "my.toml").write_text(
        '[generators]\nrecipes = ["./recipes/mine.toml"]\n[train]\nmodel = "./my_clip.json"\n'
    )
    return folder


def test_a_run_trains_with_parts_from_outside(folder: Path):
    settings = {
        **SMALL,
        "captions.source": "my_parts:Pets",
        "train.objective": "my_parts:image_to_text",
        "ring.sampler": "my_parts:newest",
        "synthesis.policy": "my_parts:Unsure",
    }
    overrides = [word for key, value in settings.items() for word in (f"--{key}", value)]
    done = command(folder, "run", "my.toml", "--run-dir", "run", *overrides)
    assert done.returncode == 0, done.stderr
    run = folder / "run"
    metrics = list(read_jsonl(run / "metrics.jsonl"))
    assert len(metrics) == 20 and set(metrics[-1]["loss_parts"]) == {"image_to_text"}
    assert (run / "logs" / "renderer-mine.log").is_file()
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["generators"]["recipes"] == [str(folder / "recipes" / "mine.toml")]
    assert config["train"]["model"] == str(folder / "my_clip.json")
    assert config["captions"]["source"] == "my_parts:Pets"
    own = json.loads((run / "provenance.json").read_text())["own_parts"]
    assert set(own) == {
        "generators.recipes", "train.model", "captions.source", "train.objective", "ring.sampler", "synthesis.policy",
    }  # fmt: skip
    assert '"choice": {"step":' in (run / "journal.jsonl").read_text()
    assert own["train.objective"]["file"] == str(folder / "my_parts.py")
    texts = [line for line in (run / "journal.jsonl").read_text().splitlines() if "a red cat" in line]
    assert texts and '"Pets"' in (run / "journal.jsonl").read_text()

    for name in ("my_clip.json", "recipes"):  # what it was made of has gone
        (folder / name).rename(folder / f"moved-{name}")
    meta = json.loads((run / "checkpoints" / "step_000020" / "meta.json").read_text())
    assert meta["model"] == "my_clip" and meta["model_config"] == MODEL
    status = command(folder / "run", "status", str(run))
    assert status.returncode == 0, status.stderr


def test_engines_are_built_by_a_backend_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    write_parts(tmp_path)
    recipe = own_recipe(tmp_path)
    text = recipe.read_text()
    parts = next(line for line in text.splitlines() if line.startswith("parts ="))
    recipe.write_text(text.replace(parts, 'parts = ["text_encoder"]'))  # seconds instead of a minute
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path / "cache"))
    built = command(tmp_path, "build-engines", "./mine.toml", "--backend", "my_parts:Backend")
    assert built.returncode == 0 and "grey levels of eager" in built.stdout, built.stderr
    assert list((tmp_path / "cache" / "engines" / "mine").glob("my_parts.Backend-*/text_encoder.mine"))
    again = command(tmp_path, "build-engines", "./mine.toml", "--backend", "my_parts:Backend")
    assert again.returncode == 0 and "are in the cache" in again.stdout, again.stderr
    script = (
        "import logging; logging.basicConfig(level=logging.INFO); "
        "from polygen_stream.engine.runtime import accelerate; "
        "from polygen_stream.generators.pipelines import load_generator; "
        "from polygen_stream.generators.recipe import load_recipe; "
        "generator = load_generator(load_recipe('mine.toml')); "
        "assert accelerate(generator, 'my_parts:Backend', 1); "
        "print(generator.render(['a red car'], [1]).shape)"
    )
    used = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert used.returncode == 0 and "(1, 32, 32, 3)" in used.stdout, used.stderr
    assert "mine renders with my_parts:Backend engines: text_encoder" in used.stderr
