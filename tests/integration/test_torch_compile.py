"""torch.compile in the place of engines: the same pictures, said in the log, and no engine is asked for."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.runtime import accelerate
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe

torch.set_num_threads(1)

CAPTIONS, SEEDS = ["a red car on a beach", "two small balls"], [3, 4]


def test_every_part_is_compiled_and_what_cannot_be_stays(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    generator = load_generator(load_recipe("micro/sdxl_turbo"))
    before = {name: generator.pipeline.components[name] for name in ("unet", "vae", "scheduler")}
    with caplog.at_level(logging.INFO):
        assert accelerate(generator, "torch-compile", threads=1, cache=EngineCache(tmp_path))
    said = "micro/sdxl_turbo renders with torch.compile: "
    (line,) = [message for message in caplog.messages if message.startswith(said)]
    assert set(line.removeprefix(said).split(", ")) == {"text_encoder", "text_encoder_2", "unet", "vae"}
    assert "forward" in vars(before["unet"]) and "decode" in vars(before["vae"])
    assert generator.pipeline.scheduler is before["scheduler"]
    assert list(tmp_path.iterdir()) == []  # it neither reads nor fills the cache


def test_eager_is_left_alone():
    generator = load_generator(load_recipe("micro/sdxl_turbo"))
    assert not accelerate(generator, "eager", threads=1)
    assert "forward" not in vars(generator.pipeline.unet)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_it_renders_what_eager_renders():
    recipe = load_recipe("micro/sdxl_turbo")
    eager, compiled = load_generator(recipe), load_generator(recipe)
    accelerate(compiled, "torch-compile", threads=1)
    for count in (2, 1):  # another number of pictures compiles again, for any number
        pictures = [each.render(CAPTIONS[:count], SEEDS[:count]).astype(int) for each in (eager, compiled)]
        assert np.abs(pictures[0] - pictures[1]).mean() <= 2.0
