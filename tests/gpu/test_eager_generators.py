"""Full-size generators, eager: memory and speed beside the plan. Their weights are whatever the memory held."""

from __future__ import annotations

import time

import pytest
import torch
from planned_memory import planned_gib

from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import load_config

pytestmark = pytest.mark.gpu
GIB, BATCH = 2**30, 8


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_a_batch_takes_what_is_planned(name: str, room, stage):
    from full_size import load_full_size  # imports diffusers, which takes seconds

    overrides = {"recipes": name, "batch": str(BATCH), "device": "cuda:0", "backend": "eager"}
    planned, reserved = planned_gib(
        load_config("micro", {f"generators.{key}": value for key, value in overrides.items()}), "renderer", name
    )
    room(1.1 * reserved)
    generator, captions = load_full_size(name, "cuda:0"), ["a red dog on a beach"] * BATCH
    generator.render(captions, range(BATCH))
    measured = torch.cuda.max_memory_allocated() / GIB
    stage.record(f"{name}: {BATCH} pictures, GiB allocated", planned, measured)
    stage.record(f"{name}: {BATCH} pictures, GiB reserved", reserved, torch.cuda.max_memory_reserved() / GIB)
    assert measured == pytest.approx(planned, rel=0.15)
    if not stage.null_gpu:
        began = time.perf_counter()
        generator.render(captions, range(BATCH))  # in main memory when it returns
        images_per_s = BATCH / (time.perf_counter() - began)
        known = find_rates(load_config("paper")).generators.get(name)
        stage.record(f"{name}: eager images/s (planned: an A100's)", known and known.per_s, images_per_s)
        stage.generator_rate(name, images_per_s)
