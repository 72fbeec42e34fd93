"""A training device that sleeps instead of computing and copying, for tests of what goes on at the same time.

The trainer is the real one, on a CPU: its ring sleeps in `read`, where a batch is gathered and copied, and its
objective in the middle of a step.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import numpy as np

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.config import (
    CaptionsConfig,
    CurriculumConfig,
    EvaluateConfig,
    GeneratorsConfig,
    RingConfig,
    RunConfig,
    TrainConfig,
)
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.ring import Kind, Member, Ring
from polygen_stream.roles.role import RoleContext
from polygen_stream.train.objectives import find_objective
from polygen_stream.train.run import main

COMPUTE_S, COPY_S = 1.0, 0.4
TASKS = 16


class SleepingRing(Ring):
    """A ring whose pixels take COPY_S to be copied."""

    def read(self, *arguments, **options) -> np.ndarray:
        time.sleep(COPY_S)
        return super().read(*arguments, **options)


def objective(*arguments, config: TrainConfig, **options):
    """The usual loss, after COMPUTE_S."""
    time.sleep(COMPUTE_S)
    usual = config.model_copy(update={"objective": "multi_positive"})
    return find_objective(usual)(*arguments, config=usual, **options)


def train(folder: Path, steps: int, *, prefetch: bool) -> list[dict]:
    """Train so many steps on a full ring and return the metrics."""
    config = RunConfig(
        captions=CaptionsConfig(target=TASKS),
        generators=GeneratorsConfig(recipes=("micro/sd15",), positives=1, negatives=0),
        ring=RingConfig(slots=64, min_fill=TASKS, draw_timeout_s=30),
        curriculum=CurriculumConfig(schedule="constant", end=0.0),
        evaluate=EvaluateConfig(every=0),
        train=TrainConfig(
            batch=4, steps=steps, objective=f"{__name__}:objective", prefetch=prefetch, checkpoint_every=steps
        ),
    )
    with closing(SleepingRing.create(ring_spec(config))) as ring:
        ring.register("trainer", "trainer")
        for task in range(TASKS):
            ring.open_group(task, Kind.PLAIN, f"thing {task}", None, [Member(0, 0, task)], timeout_s=1)
            ring.commit(ring.claim([0], 1), np.full((1, *ring.spec.image_shape), 8 * task, np.uint8))
        ring.finish_opening()
        main(RoleContext(config, folder, ring, "trainer", None))
    return list(read_jsonl(folder / "metrics.jsonl"))
