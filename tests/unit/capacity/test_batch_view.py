"""Which batch of the generators a plan names: by memory, by division, and by the shipped engines."""

from __future__ import annotations

import pytest
from gpu_plans import budget, node, number, settings

from polygen_stream.capacity.batch_view import proposed_batch
from polygen_stream.capacity.gpus import GIB, GpuSpec, parse_gpus
from polygen_stream.capacity.memory import gpu_needs, largest_batch, problems
from polygen_stream.capacity.proposal import arranged, propose
from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import RunConfig, load_config
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan


def test_the_largest_batch_is_that_of_the_memory():
    config = node()
    plan, gpus = build_process_plan(config, there=False), parse_gpus("8xA100-80G")

    def problems_with(batch: int) -> list[str]:
        larger = node(generators__batch=str(batch))
        return problems(gpu_needs(larger, build_process_plan(larger, there=False), gpus), gpus, False)

    largest = largest_batch(config, plan, gpus)
    assert largest == 16 and problems_with(largest) == [] and problems_with(2 * largest)
    assert largest_batch(config, plan, parse_gpus("8xH200-141G")) == 32
    assert largest_batch(config, plan, parse_gpus("8xA10-24G")) == 0
    assert largest_batch(RunConfig(), build_process_plan(RunConfig()), gpus) is None
    told = budget(config, "8xA100-80G")
    assert "generators.batch = 8; by memory up to 16, a power of two, fit every GPU" in told
    assert "built for fewer (sd15 8, sd2 8, sana 8, sdxl_turbo 8)" in told


@pytest.mark.parametrize(
    ("preset", "gpus"), [("paper", 1), ("paper", 2), ("paper", 4), ("paper", 8), ("single_gpu", 1)]
)
def test_a_plan_says_the_batch_that_fits_its_own_division(preset: str, gpus: int):
    config = load_config(preset)
    said = settings(config, gpus)["generators.batch"]
    on_gpus, cards = arranged(config, propose(config, find_rates(config), gpus)), parse_gpus(f"{gpus}xA100-80G")
    largest = largest_batch(on_gpus, build_process_plan(on_gpus, there=False), cards)
    assert largest and largest >= number(said) > 0
    engines = on_gpus.generators.backend == "tensorrt"
    assert engines == (gpus >= 4 and preset == "paper")
    assert number(said) == (8 if engines else largest)
    assert (f"by memory of A100-80G up to {largest}" in said) == (number(said) < largest)


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_a_plan_says_a_batch_that_the_shipped_engines_take_and_that_fits(name: str):
    batch, engine = 0, load_recipe(name).compiled
    for gpus in ("4xA100-80G", "4xH100-80G"):
        config = node(generators__recipes=name, launch__renderers=f'{{"{name}" = ["cuda:2", "cuda:3"]}}')
        plan, cards = build_process_plan(config, there=False), parse_gpus(gpus)
        batch, _ = proposed_batch(config, plan, cards, gpus) or (0, "")
        assert engine.batch[0] <= batch <= engine.batch[2], gpus
        usual = config.model_copy(update={"generators": config.generators.model_copy(update={"batch": batch})})
        assert problems(gpu_needs(usual, plan, cards), cards, False) == []


def test_a_plan_whose_memory_is_too_small_for_the_engines_says_so():
    config = node(launch__renderers='{"sdxl_turbo" = ["cuda:0"]}', generators__recipes="sdxl_turbo")
    config = config.model_copy(update={"train": config.train.model_copy(update={"device": "cuda:2"})})
    gpus = [GpuSpec(0, "A", 20 * GIB), GpuSpec(1, "B", 80 * GIB), GpuSpec(2, "B", 80 * GIB)]
    batch, why = proposed_batch(config, build_process_plan(config, there=False), gpus, "A") or (0, "")
    assert 0 < batch < 8 and "built for more (sdxl_turbo 8)" in why
