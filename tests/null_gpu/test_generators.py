"""Every full-size generator renders a batch: types, devices, memory and host waits."""

from __future__ import annotations

from functools import cache

import null_gpu
import pytest
from planned_memory import planned_gib

from polygen_stream.config import RunConfig, load_config
from polygen_stream.generators.recipe import load_recipe

pytestmark = pytest.mark.rehearsal

SHIPPED = ("sd15", "sd2", "sana", "sdxl_turbo")  # in configs/
NAMES = (*SHIPPED, "sd35_medium")
LARGE, SMALL = 8, 4  # a batch of the engines' size, and that of configs/single_gpu.toml, which renders eager


@cache
def rendered(name: str) -> dict:
    return null_gpu.run("render", name, SMALL, LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_come_of_parts_in_the_recipes_types(name: str, record):
    figures, recipe = rendered(name), load_recipe(name)
    for batch, of_batch in figures["batches"].items():
        assert of_batch["shape"] == [int(batch), 256, 256, 3] and of_batch["dtype"] == "uint8"
    assert figures["parts"] == {
        part: [f"torch.{recipe.dtype_of(part)}", "cuda:0"] for part in recipe.parameters if part not in recipe.without
    }
    assert figures["host_gib"] < 2, "weights were made in the host's memory"
    steps = recipe.sampling["num_inference_steps"]
    record(f"{name}: host waits in a call of 8 pictures, {steps} steps", figures["batches"][str(LARGE)]["waits"])


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_has_its_weights(name: str, record):
    recipe = load_recipe(name)
    planned = sum(recipe.bytes_of(part) for part in recipe.parameters) / null_gpu.GIB
    measured = rendered(name)["weights"]
    record(f"{name}: weights, GiB", f"{measured:.2f}", f"{planned:.2f}")
    assert measured == pytest.approx(planned, rel=0.02)


def check(what: str, figures: dict, config: RunConfig, name: str, record) -> None:
    allocated, reserved = planned_gib(config, "renderer", name)
    record(f"{what}, GiB allocated", f"{figures['peak']:.1f}", f"{allocated:.1f}")
    record(f"{what}, GiB reserved", f"{figures['reserved']:.1f}", f"{reserved:.1f}")
    assert figures["peak"] == pytest.approx(allocated, rel=0.15)
    assert figures["reserved"] == pytest.approx(reserved, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_has_the_memory_of_a_batch(name: str, record):
    overrides = {"recipes": name, "batch": str(LARGE), "device": "cuda:0", "backend": "eager"}
    config = load_config("micro", {f"generators.{key}": value for key, value in overrides.items()})
    figures = rendered(name)["batches"][str(LARGE)]
    check(f"{name}: {LARGE} pictures", figures, config, name, record)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_plan_has_the_memory_of_the_renderers_of_single_gpu(name: str, record):
    config = load_config("single_gpu")
    assert (config.generators.backend, config.generators.batch) == ("eager", SMALL)
    figures = rendered(name)["batches"][str(SMALL)]
    check(f"single_gpu, {name}: {SMALL} pictures", figures, config, name, record)
