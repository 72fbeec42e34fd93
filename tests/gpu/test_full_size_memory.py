"""The memory of full-size parts, beside what is planned for them. Their weights are whatever the memory held."""

from __future__ import annotations

import pytest
import torch
from full_size_batch import draw, load
from planned_memory import planned_gib

from polygen_stream.config import load_config
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.step import train_step
from polygen_stream.train.trainer import _build_model

pytestmark = pytest.mark.gpu
GIB = 2**30


@pytest.fixture(autouse=True)
def room():
    """room(GiB): skip on a GPU that is smaller."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()

    def needs(gib: float) -> None:
        there = torch.cuda.mem_get_info()[0] / GIB
        if there < gib:
            pytest.skip(f"needs {gib:.0f} GiB of GPU memory, {there:.0f} are free")

    yield needs
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_a_batch_takes_what_is_planned(name: str, room):
    from full_size import load_full_size  # imports diffusers, which takes seconds

    overrides = {"recipes": name, "batch": "8", "device": "cuda:0", "backend": "eager"}
    config = load_config("micro", {f"generators.{key}": value for key, value in overrides.items()})
    planned, reserved = planned_gib(config, "renderer", name)
    room(1.1 * reserved)
    load_full_size(name, "cuda:0").render(["a red dog on a beach"] * 8, list(range(8)))
    assert torch.cuda.max_memory_allocated() / GIB == pytest.approx(planned, rel=0.15)


@pytest.mark.parametrize("name", ["single_gpu", "paper"])
def test_a_step_takes_what_is_planned(name: str, room):
    device, config = torch.device("cuda:0"), load(name)
    planned, reserved = planned_gib(load_config(name), "trainer")
    room(1.1 * reserved)
    model, tokenizer = _build_model(config, None, device)
    optimizer = build_optimizer(model, config.train)
    batch, _staging = draw(config, device, tokenizer)
    for _ in range(2):
        train_step(model.train(), optimizer, batch, config)
    assert torch.cuda.max_memory_allocated() / GIB == pytest.approx(planned, rel=0.15)
