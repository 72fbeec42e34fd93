"""Parts of the user's own, "module:attribute": found, checked before a run starts, and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from own_parts import write_parts
from own_recipe import own_recipe

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config
from polygen_stream.launch.own_parts import check_own_parts
from polygen_stream.launch.supervise import supervise
from polygen_stream.registry import CAPTION_SOURCES, REGISTRIES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the user's modules in it."""
    write_parts(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_name_of_the_package_can_be_imported_and_called():
    for registry in REGISTRIES:
        for name in registry.parts:
            assert callable(registry.load(name)), name


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("captions.source", "transformer", "'shards', 'transformers', .* or 'module:attribute' .did you mean 'transf"),
        ("train.objective", "my_losses", "expected one of 'multi_positive', 'negclip', 'infonce', or 'module:"),
        ("generators.backend", "a.b:", "expected one of 'eager', 'torch-compile', 'onnxruntime'"),
        ("ring.sampler", "./sampler.py:draw", "expected one of .*'rounds', 'uniform', or 'module:attribute'"),
    ],
)
def test_what_is_neither_a_name_nor_a_part_is_refused_by_the_config(key: str, value: str, told: str):
    with pytest.raises(UserError, match=told):
        load_config(None, {key: value})


def test_what_a_run_takes_from_outside_is_recorded(here: Path):
    recipe = own_recipe(here / "recipes")
    config = load_config(
        None,
        {
            "generators.recipes": f"{recipe},micro/sana",
            "captions.source": "my_parts:Pets",
            "train.objective": "my_parts:image_to_text",
            "ring.sampler": "my_parts:newest",
            "generators.backend": "my_parts:Backend",
        },
    )
    found = check_own_parts(config)
    mine = found["generators.recipes"]["mine"]
    assert mine["file"] == str(recipe) and mine["text"] == recipe.read_text()  # a later edit does not lose it
    assert {key: part["value"] for key, part in found.items() if key != "generators.recipes"} == {
        "captions.source": "my_parts:Pets",
        "train.objective": "my_parts:image_to_text",
        "ring.sampler": "my_parts:newest",
        "generators.backend": "my_parts:Backend",
    }
    assert found["ring.sampler"]["file"] == str(here / "my_parts.py") and len(found["ring.sampler"]["sha256"]) == 64
    assert check_own_parts(load_config()) == {}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("captions.source", "my_part:Source", "there is no module 'my_part' in PYTHONPATH"),
        ("captions.source", "my_parts:Pest", "my_parts.py has no 'Pest': did you mean 'Pets'?"),
        (
            "captions.source",
            "my_mistakes:Lazy",
            "does not define collect, pending, provenance, submit: see CaptionSource",
        ),
        ("train.objective", "my_mistakes:NUMBER", "is int, not callable"),
        (
            "train.objective",
            "my_mistakes:loss",
            "takes (image_features, text_features), but it is called with (image_f",
        ),
        ("ring.sampler", "my_parts:image_to_text", "called with (groups, seed, step, plain, pair, first)"),
        (
            "generators.backend",
            "my_mistakes:HalfBackend",
            "HalfBackend without bf16, quantizes, target, flags, runs_here",
        ),
        ("generators.backend", "my_mistakes:raising", "calling it fails: RuntimeError: no luck"),
        ("ring.sampler", "broken:draw", "importing it fails: SyntaxError"),
        ("ring.sampler", "needy:draw", "importing it fails: No module named 'not_installed_here'"),
        (
            "train.model",
            "ViT-B-33",
            "train.model = 'ViT-B-33' is not a model open_clip knows: did you mean 'ViT-B-32'?",
        ),
        ("train.model", "nosuch.json", "there is no train.model "),
        ("generators.recipes", "nosuch.toml", "nosuch.toml does not exist"),
    ],
    ids=lambda value: value if ":" in value else "",
)
def test_a_wrong_part_ends_a_run_before_it_starts(here: Path, key: str, value: str, told: str):
    (here / "broken.py").write_text("def draw(:\n")
    (here / "needy.py").write_text("import not_installed_here\n")
    config = load_config(None, {key: value})
    with pytest.raises(UserError) as caught:
        supervise(config, here / "run")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not (here / "run").exists()


def test_a_name_in_a_recipe_that_its_pipeline_ignores_ends_a_run_before_it_starts(here: Path):
    recipe = own_recipe(here)
    recipe.write_text(recipe.read_text().replace("num_inference_steps", "num_inferense_steps"))
    config = load_config(None, {"generators.recipes": str(recipe)})
    with pytest.raises(UserError) as caught:
        supervise(config, here / "run")
    told = "sampling: StableDiffusionPipeline takes no num_inferense_steps: did you mean num_inference_steps?"
    assert str(caught.value) == f"{recipe}: {told}"
    assert not (here / "run").exists()


def test_the_command_line_says_it_in_one_line(here: Path):
    words = ["run", "--train.objective", "my_mistakes:loss", "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "polygen_stream", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: train.objective = 'my_mistakes:loss' takes (image_features, text_features)")


def test_parts_are_found_where_python_finds_them(here: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    check = [sys.executable, "-m", "polygen_stream.registry.check", "ring.sampler=my_parts:newest"]
    package = os.environ.get("PYTHONPATH", "")
    for folder, path in ((here, package), (elsewhere, f"{package}:{here}")):
        done = subprocess.run(
            check, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["ring.sampler"]["file"] == str(here / "my_parts.py")
    lost = subprocess.run(check, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert lost.returncode == 2 and "there is no module 'my_parts'" in lost.stderr


def test_a_captioners_own_interpreter_is_asked(here: Path):
    words = {"captions.source": "my_parts:Pets", "launch.captioner_python": sys.executable}
    assert check_own_parts(load_config(None, words))["captions.source"]["value"] == "my_parts:Pets"
    with pytest.raises(UserError, match=r"launch.captioner_python = .*nosuch' cannot be started"):
        check_own_parts(load_config(None, {**words, "launch.captioner_python": str(here / "nosuch")}))


def test_a_factory_that_makes_no_caption_source_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch):
    from polygen_stream.captions.sources import caption_source

    monkeypatch.syspath_prepend(here)
    with pytest.raises(UserError, match="my_mistakes:no_source' returned str, which is no subclass of"):
        caption_source(load_config(None, {"captions.source": "my_mistakes:no_source"}).captions)
    assert CAPTION_SOURCES.load("my_parts:Pets").__module__ == "my_parts"
