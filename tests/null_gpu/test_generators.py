"""Every full-size generator renders a batch: types, devices, memory and host waits."""

from __future__ import annotations

from functools import cache

import null_gpu
import pytest
from planned_memory import planned_gib

from polygen_stream.config import load_config
from polygen_stream.generators.recipe import load_recipe

pytestmark = pytest.mark.rehearsal

NAMES = ("sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium")


@cache
def rendered(name: str) -> dict:
    return null_gpu.run("render", name)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_come_of_parts_in_the_recipes_types(name: str, record):
    figures, recipe = rendered(name), load_recipe(name)
    assert figures["shape"] == [8, 256, 256, 3] and figures["dtype"] == "uint8"
    assert figures["parts"] == {
        part: [f"torch.{recipe.dtype_of(part)}", "cuda:0"] for part in recipe.parameters if part not in recipe.without
    }
    assert figures["host_gib"] < 2, "weights were made in the host's memory"
    steps = recipe.sampling["num_inference_steps"]
    record(f"{name}: host waits in a call of 8 pictures, {steps} steps", figures["waits"])


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_has_its_weights(name: str, record):
    recipe = load_recipe(name)
    planned = sum(recipe.bytes_of(part) for part in recipe.parameters) / null_gpu.GIB
    measured = rendered(name)["weights"]
    record(f"{name}: weights, GiB", f"{measured:.2f}", f"{planned:.2f}")
    assert measured == pytest.approx(planned, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_has_the_memory_of_a_batch(name: str, record):
    overrides = {"recipes": name, "batch": "8", "device": "cuda:0", "backend": "eager"}
    config = load_config("micro", {f"generators.{key}": value for key, value in overrides.items()})
    (allocated, reserved), figures = planned_gib(config, "renderer", name), rendered(name)
    record(f"{name}: 8 pictures, GiB allocated", f"{figures['peak']:.1f}", f"{allocated:.1f}")
    record(f"{name}: 8 pictures, GiB reserved", f"{figures['reserved']:.1f}", f"{reserved:.1f}")
    assert figures["peak"] == pytest.approx(allocated, rel=0.15)
    assert figures["reserved"] == pytest.approx(reserved, rel=0.15)
