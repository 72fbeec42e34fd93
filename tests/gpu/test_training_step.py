"""The optimizer step of the shipped configs at their batch: memory, time and images per second beside the plan."""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch
from full_size_batch import draw, load
from planned_memory import planned_gib

from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import load_config
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.step import train_step
from polygen_stream.train.trainer import _build_model

pytestmark = pytest.mark.gpu
GIB = 2**30
WARM_UP, TIMED = 2, 5


def take_a_step(name: str, room, stage) -> None:
    device, config = torch.device("cuda:0"), load(name)
    planned, reserved = planned_gib(load_config(name), "trainer")
    room(1.1 * reserved)
    model, tokenizer = _build_model(config, None, device)
    optimizer = build_optimizer(model, config.train)
    batch, _staging = draw(config, device, tokenizer)
    model.train()
    seconds = []
    for _ in range(WARM_UP + (0 if stage.null_gpu else TIMED)):
        began = time.perf_counter()
        images = train_step(model, optimizer, batch, config).images
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    measured = torch.cuda.max_memory_allocated() / GIB
    stage.record(f"{name}: step of {images} images, GiB allocated", planned, measured)
    stage.record(f"{name}: step of {images} images, GiB reserved", reserved, torch.cuda.max_memory_reserved() / GIB)
    if not stage.null_gpu:
        step_s, known = median(seconds[WARM_UP:]), find_rates(config).trainer.per_s
        stage.record(f"{name}: seconds of a step (planned: an A100's)", images / known, step_s)
        stage.record(f"{name}: images/s (planned: an A100's)", known, images / step_s)
        stage.trainer_rate(config.train.model, images / step_s, config.train.accum_freq)
    assert measured == pytest.approx(planned, rel=0.15)


def test_a_step_of_single_gpu_takes_what_is_planned(room, stage):
    take_a_step("single_gpu", room, stage)


def test_a_step_of_paper_takes_what_is_planned(room, stage):
    take_a_step("paper", room, stage)
