"""The full-size recipes: valid, honest about what they need; a further generator is one TOML file and nothing else."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from polygen_stream.assets import resources
from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.base.errors import UserError
from polygen_stream.generators.classes import diffusers_classes
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe

PAPER = ("sd15", "sd2", "sana", "sdxl_turbo")
FULL_SIZE = (*PAPER, "sd35_medium", "flux_schnell")


@pytest.mark.parametrize("name", resources.recipe_names())
def test_every_name_in_a_shipped_recipe_is_one_that_diffusers_knows(name: str):
    recipe = load_recipe(name)
    pipeline, scheduler = diffusers_classes(recipe)
    assert pipeline.__name__ == recipe.pipeline and (scheduler is None) == (recipe.scheduler is None)
    assert set(recipe.sampling) <= set(inspect.signature(pipeline.__call__).parameters)
    components = inspect.signature(pipeline.__init__).parameters
    assert {*recipe.dtypes, *recipe.without} <= set(components)
    assert set(recipe.engine.parts if recipe.engine else ()) <= set(components)
    if recipe.scheduler:
        assert set(recipe.scheduler.arguments) <= set(inspect.signature(scheduler.__init__).parameters)


@pytest.mark.parametrize(
    ("pipeline", "changes", "told"),
    [
        (
            "StableDiffusionPipeline",  # takes **kwargs too, and ignores what is in them
            {"sampling": {"num_inferense_steps": 6}},
            "sampling: StableDiffusionPipeline takes no num_inferense_steps: did you mean num_inference_steps?",
        ),
        (
            "SanaPipeline",
            {"sampling": {"guidance": 1.0}},
            "SanaPipeline takes no guidance: did you mean guidance_scale?",
        ),
        ("SanaPipeline", {"sampling": {"kwargs": {}}}, "SanaPipeline takes no kwargs"),
        (
            "StableDiffusionPipeline",
            {"scheduler": {"class": "DDIMScheduler", "arguments": {"timestep_spacin": "trailing"}}},
            "scheduler.arguments: DDIMScheduler takes no timestep_spacin: did you mean timestep_spacing?",
        ),
        (
            "StableDiffusionPipeline",
            {"without": ["safety_cheker"]},
            "without: StableDiffusionPipeline has no part safety_cheker: did you mean safety_checker?",
        ),
        ("StableDiffusionPipeline", {"dtypes": {"vea": "float32"}}, "dtypes: .* no part vea: did you mean vae?"),
        ("SanaPipeline", {"engine": {"parts": ["unet"]}}, "engine.parts: SanaPipeline has no part unet"),
    ],
)
def test_a_name_that_diffusers_would_ignore_is_refused_with_the_nearest(pipeline: str, changes: dict, told: str):
    values = micro().model_dump(exclude={"scheduler", "engine"}) | {"sampling": {}, "pipeline": pipeline} | changes
    recipe = Recipe.model_validate(values)
    pattern = ".*".join(map(re.escape, told.split(".*")))
    for check in (diffusers_classes, load_generator):
        with pytest.raises(UserError, match=f"^engines/micro/sd15.toml: .*{pattern}"):
            check(recipe)


def test_a_pipeline_that_the_weights_name_is_asked_once_it_is_loaded():
    recipe = micro(pipeline="DiffusionPipeline", sampling={"num_inferense_steps": 6})
    with pytest.raises(
        UserError, match="StableDiffusionPipeline takes no num_inferense_steps: did you mean num_inference"
    ):
        load_generator(recipe)
    diffusers_classes(recipe)  # which takes **kwargs alone, and so says nothing


@pytest.mark.parametrize("name", [*PAPER, "sd35_medium"])
def test_every_costly_part_of_a_generator_is_compiled(name: str):
    recipe = load_recipe(name)
    components = inspect.signature(getattr(diffusers, recipe.pipeline).__init__).parameters
    costly = {part for part in components if part in ("unet", "transformer", "vae") or part.startswith("text_encoder")}
    assert set(recipe.engine.parts) == costly - set(recipe.without)


def test_the_dead_repositories_are_not_named():
    weights = [load_recipe(name).weights for name in FULL_SIZE]
    assert not [each for each in weights if each.startswith(("runwayml/", "stabilityai/stable-diffusion-2"))]


def test_pictures_are_not_blanked_and_captions_not_rewritten():
    for name in ("sd15", "sd2"):
        assert "safety_checker" in load_recipe(name).without
    assert load_recipe("sana").sampling["complex_human_instruction"] == []
    assert [load_recipe(name).sampling.get("negative_prompt") for name in FULL_SIZE] == [None] * len(FULL_SIZE)


def test_what_overflows_in_half_precision_is_not_asked_to_compute_in_it():
    assert load_recipe("sana").dtype == "bfloat16"
    assert load_recipe("sdxl_turbo").dtype_of("vae") == "float32"
    assert load_recipe("sdxl_turbo").dtype_of("unet") == "float16"
    assert load_recipe("sd2").engine.float32_attention == ("unet",)


def micro(name: str = "sd15", **changes: object) -> Recipe:
    recipe = load_recipe(f"micro/{name}")
    fast = {"sampling": {**recipe.sampling, "num_inference_steps": 2}}
    return recipe.model_copy(update={**fast, **changes})


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of engines/ to add recipes to."""
    folder = tmp_path / "engines"
    shutil.copytree(resources._folder("engines"), folder)
    monkeypatch.setattr(resources, "_folder", lambda name: tmp_path / name)
    return folder


FIFTH = """
pipeline = "StableDiffusionPipeline"
weights = "{weights}"
license = "none"
width = 32
height = 32
dtype = "float32"

[scheduler]
class = "EulerDiscreteScheduler"
arguments = {{ timestep_spacing = "trailing" }}

[sampling]
num_inference_steps = 3
guidance_scale = 2.0
"""


def test_a_fifth_generator_is_one_toml_file(engines: Path, tmp_path: Path):
    shutil.copytree(SHIPPED_WEIGHTS / "sd15", tmp_path / "downloaded")
    (engines / "fifth.toml").write_text(FIFTH.format(weights=tmp_path / "downloaded"))
    assert "fifth" in resources.recipe_names()
    generator = load_generator(load_recipe("fifth"))
    assert type(generator.pipeline.scheduler) is diffusers.EulerDiscreteScheduler
    assert generator.pipeline.scheduler.config.timestep_spacing == "trailing"
    assert generator.pipeline.scheduler.config.prediction_type == "epsilon"  # from the weights
    pictures = generator.render(["a red car", "a red car"], [1, 2])
    assert pictures.shape == (2, 32, 32, 3)
    assert pictures.std() > 3 and not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("scheduler", "told"),
    [
        ({"class": "EulerScheduler"}, "diffusers has no scheduler 'EulerScheduler'"),
        ({"class": "DDIMScheduler", "arguments": {"flow_shift": 3.0}}, "DDIMScheduler takes no flow_shift"),
    ],
)
def test_a_scheduler_that_diffusers_does_not_have_is_refused(scheduler: dict, told: str):
    recipe = Recipe.model_validate({**micro().model_dump(exclude={"scheduler"}), "scheduler": scheduler})
    with pytest.raises(UserError, match=f"engines/micro/sd15.toml: .*{told}"):
        load_generator(recipe)


def test_pictures_are_made_smaller_to_the_rings_size_with_antialiasing():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0  # every other column: what a resize without antialiasing keeps or loses by chance

    class Striped:
        def __call__(self, **_: object) -> object:
            return type("Output", (), {"images": stripes})

    small = Generator(micro(width=64, height=64), Striped(), size=16).render(["x"], [0])
    assert small.shape == (1, 16, 16, 3)
    assert np.abs(small[..., 2:-2, :].astype(int) - 127).max() <= 6


def test_a_resized_picture_shows_what_the_large_one_shows():
    large, small = load_generator(micro()), load_generator(micro(), size=16)
    whole, halved = (each.render(["a red car"], [3])[0].astype(float) for each in (large, small))
    averaged = whole.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - halved).mean() < 6 < np.abs(averaged.mean(axis=(0, 1)) - halved).mean()


@pytest.mark.parametrize(("changes", "size"), [({}, 64), ({"height": 40}, 32)])
def test_pictures_are_never_made_larger_or_of_another_shape(changes: dict, size: int):
    with pytest.raises(UserError, match=rf"renders 32x\d+, and {size}x{size} is asked for: .*lower ring.image_size"):
        load_generator(micro(**changes), size=size)


@pytest.mark.parametrize("name", ["sd15", "sdxl_turbo", "sana"])
def test_a_decoder_may_compute_in_another_type_than_the_denoiser(name: str):
    mixed = load_generator(micro(name, dtype="bfloat16", dtypes={"vae": "float32"}))
    assert (mixed.pipeline.vae.dtype, mixed.pipeline.text_encoder.dtype) == (torch.float32, torch.bfloat16)
    pictures = [each.render(["a red car"], [3]).astype(int) for each in (mixed, load_generator(micro(name)))]
    assert np.abs(pictures[0] - pictures[1]).mean() < 12
