"""Recipes, the quality gate, and what a bad recipe or bad weights say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from polygen_stream.assets.resources import SHIPPED_WEIGHTS, recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.generators.quality import refuse_reasons
from polygen_stream.generators.recipe import Recipe, load_recipe, read_recipe

MICRO = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")


@pytest.mark.parametrize("name", MICRO)
def test_shipped_recipes_load_and_their_weights_are_there(name: str):
    recipe = load_recipe(name)
    assert (Path(recipe.source) / "model_index.json").is_file()
    assert recipe.name == name


@pytest.mark.parametrize("name", MICRO)
def test_shipped_configs_do_not_say_where_they_were_loaded_from(name: str):
    configs = list(Path(load_recipe(name).source).rglob("*.json"))
    assert len(configs) >= 5
    assert [file for file in configs if "_name_or_path" in file.read_text(encoding="utf-8")] == []


def test_recipes_span_the_papers_pipeline_classes():
    assert [load_recipe(n).pipeline for n in MICRO] == [
        "StableDiffusionPipeline", "StableDiffusionPipeline", "SanaPipeline", "StableDiffusionXLPipeline"
    ]  # fmt: skip


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(UserError, match=r"did you mean micro/sana\?.*micro/sd15"):
        load_recipe("micro/sanna")


def recipe(**changes: object) -> Recipe:
    return load_recipe("micro/sd15").model_copy(update=changes)


def test_a_pipeline_that_diffusers_does_not_have_is_refused():
    from polygen_stream.generators.pipelines import load_generator

    with pytest.raises(UserError, match="no pipeline 'StableDifusionPipeline'"):
        load_generator(recipe(pipeline="StableDifusionPipeline"))
    with pytest.raises(UserError, match="no pipeline 'UNet2DConditionModel'"):
        load_generator(recipe(pipeline="UNet2DConditionModel"))


def test_missing_weights_name_folder_and_remedy():
    from polygen_stream.generators.pipelines import load_generator

    with pytest.raises(UserError, match=r"no weights at .*nowhere; .*tools/train_micro.py nowhere"):
        load_generator(recipe(weights="package:nowhere"))


def test_truncated_weights_are_refused_by_name(tmp_path: Path):
    from polygen_stream.generators.pipelines import load_generator

    folder = tmp_path / "sd15"
    shutil.copytree(SHIPPED_WEIGHTS / "sd15", folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"micro/sd15: cannot load .*sd15 as StableDiffusionPipeline"):
        load_generator(recipe(weights=str(folder)))


def test_pickled_weights_are_never_loaded(tmp_path: Path):
    from polygen_stream.generators.pipelines import load_generator

    folder = tmp_path / "sd15"
    shutil.copytree(SHIPPED_WEIGHTS / "sd15", folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="cannot load"):
        load_generator(recipe(weights=str(folder)))


def test_the_quality_gate_refuses_black_and_constant_pictures():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    black, grey = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 128, np.uint8)
    reasons = refuse_reasons(np.stack([noise, black, grey]))
    assert reasons[0] is None
    assert reasons[1].startswith("black")
    assert reasons[2].startswith("constant")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("license", "licence", r"bad.toml: unknown key licence: did you mean license\?$"),
        ("[sampling]", "[samplng]", r"bad.toml: unknown key samplng: did you mean sampling\?$"),
        ("[sampling]", "[engine.tensorrt]\nrefitt = 1\n[sampling]", "unknown key engine.tensorrt.refitt: .* refit\\?$"),
        ("[sampling]", '[scheduler]\nclas = "X"\n[sampling]', r"unknown key scheduler.clas: did you mean class\?$"),
        ("[sampling]", "[other]", r"bad.toml: unknown key other: did you mean \w+\?$"),
        ('license = "Apache-2.0"', "", r"bad.toml: license is missing, and has no default$"),
        ("width = 32", "width = { a = 1, b = [2] }", r"bad.toml: width: expected an integer, got {\.\.\.}$"),
        ("parts = [", "parts = [{ a = 1 }, ", r"bad.toml: engine.parts.0: expected a string, got {\.\.\.}$"),
        ("num_inference_steps = 14", "width = 64", r"sampling.width: write width above the tables"),
        (
            "num_inference_steps = 14",
            "num_images_per_prompt = 2",
            r"sampling.num_images_per_prompt is set by the renderer",
        ),
        ("width = 32", 'width = "wide"', r"bad.toml: width: .*got 'wide'"),
        ("float32", "float8", r"bad.toml: dtype: "),
        ("[sampling]", "[sampling", r"bad.toml is not valid TOML"),
    ],
)
def test_a_bad_recipe_names_file_and_key(tmp_path: Path, old: str, new: str, told: str):
    path = tmp_path / "bad.toml"
    path.write_text(recipe_path("micro/sd15").read_text().replace(old, new))
    with pytest.raises(UserError, match=told):
        read_recipe(path, "bad")
