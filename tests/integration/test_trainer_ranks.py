"""A trainer of several ranks, each a real process, on one ring: what it learns, and how it ends."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_process import TINY_VIT, start_rank

from polygen_stream.base.errors import RankLost
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.config import (
    CaptionsConfig,
    CurriculumConfig,
    EvaluateConfig,
    GeneratorsConfig,
    RingConfig,
    RunConfig,
    TrainConfig,
    dump_config,
)
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.launch.rendezvous import rendezvous_environment
from polygen_stream.ring import Kind, Member, Ring
from polygen_stream.train.checkpoint import load_checkpoint

TASKS, STEPS, POSITIVES = 40, 6, 3


NCCL = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for every rank: two"),
    ],
)


def config_for(*, model: str = TINY_VIT, deterministic: bool = True, leftover_age: int = 0, **train) -> RunConfig:
    ring = {"mode": "deterministic", "window": 24} if deterministic else {}
    options = {"batch": 13, "steps": STEPS, "warmup": 2, "checkpoint_every": 1000, "precision": "fp32"}
    return RunConfig(
        captions=CaptionsConfig(target=TASKS),
        generators=GeneratorsConfig(positives=POSITIVES, negatives=2),
        ring=RingConfig(slots=512, min_fill=16, draw_timeout_s=60, **ring),
        curriculum=CurriculumConfig(schedule="constant", end=0.3, leftover_age=leftover_age),
        evaluate=EvaluateConfig(every=0),
        train=TrainConfig(model=model, **options | train),
    )


def filled_ring(config: RunConfig, tasks: int = TASKS) -> Ring:
    """Complete groups of noise; every other one is a pair, every fifth has lost a picture, so that shares differ."""
    ring = Ring.create(ring_spec(config))
    ring.register("producer", "test-producer")
    for task in range(tasks):
        kind = Kind(task % 2)
        members = [Member(k, 0, task) for k in range(POSITIVES)] + [Member(k, 1, task) for k in range(2 * kind)]
        negative = f"not thing {task}" if kind else None
        ring.open_group(task, kind, f"thing {task} on a table", negative, members, timeout_s=10)
        while claims := ring.claim(range(POSITIVES), limit=1):
            rng = np.random.default_rng([task, claims[0].generator, claims[0].polarity])
            if task % 5 == 0 and claims[0].generator == POSITIVES - 1:
                ring.fail(claims, "lost on purpose")
            else:
                ring.commit(claims, rng.integers(0, 256, (1, 32, 32, 3), np.uint8))
    if tasks == TASKS:
        ring.finish_opening()
    return ring


class RankProcesses:
    """The ranks of a trainer, each a process with a log of its own."""

    def __init__(self, ring: Ring, run_dir: Path, config: RunConfig) -> None:
        run_dir.mkdir()
        dump_config(config, run_dir / "config.toml")
        self.run_dir, ranks = run_dir, config.train.ranks
        self.logs = [run_dir / f"trainer-{rank}.log" for rank in range(ranks)]
        self.processes = []
        rendezvous = {**rendezvous_environment(), "WORLD_SIZE": str(ranks)}
        exact = {"NVIDIA_TF32_OVERRIDE": "0"}  # GPUs round float32 where they think it pays, by the number of rows
        for rank, log in enumerate(self.logs):
            environment = {**rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            self.processes.append(start_rank(ring.fd, run_dir, log, exact | environment))

    def wait(self, limit_s: float = 200) -> list[int | None]:
        """Exit codes; None for a process that still runs after the limit."""
        deadline = time.monotonic() + limit_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def log(self, rank: int) -> str:
        return self.logs[rank].read_text()

    def metrics(self) -> list[dict]:
        return list(read_jsonl(self.run_dir / "metrics.jsonl"))

    def wait_until(self, condition, limit_s: float = 200) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert all(process.is_alive() for process in self.processes), [log.read_text() for log in self.logs]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture
def start(tmp_path):
    started: list[RankProcesses] = []

    def start(ring: Ring, config: RunConfig) -> RankProcesses:
        started.append(RankProcesses(ring, tmp_path / f"run-{len(started)}", config))
        return started[-1]

    yield start
    for trainer in started:
        trainer.kill()


def finished(start, config: RunConfig) -> RankProcesses:
    with closing(filled_ring(config)) as ring:
        trainer = start(ring, config)
        assert trainer.wait() == [0] * config.train.ranks, [log.read_text() for log in trainer.logs]
    return trainer


@pytest.mark.parametrize("device", ["cpu", NCCL])
@pytest.mark.parametrize("case", ["transformer", "batch norms", "micro-batches"])
def test_two_ranks_train_as_one_process_would(start, case, device):
    rel = {"cpu": 1e-5, "cuda": 1e-3}[device]  # a GPU takes another kernel for another number of rows
    options = {
        "transformer": {"image_image_weight": 0.5, "image_image_head": 16, "downsample_probability": 0.5},
        "batch norms": {
            "model": "micro",
            "ema_decay": 0.5,
            "lr": 1e-6,
        },  # Adam turns rounding into steps of the size of lr
        "micro-batches": {"accum_freq": 3},
    }[case]
    one, two = (finished(start, config_for(ranks=ranks, device=device, **options)) for ranks in (1, 2))
    expected, found = one.metrics(), two.metrics()
    assert len(expected) == len(found) == STEPS
    assert len({line["images"] for line in expected}) > 1  # the shares were not all equal
    for line, other in zip(expected, found, strict=True):
        for name in ("step", "texts", "images", "p_realised", "lr"):
            assert other[name] == line[name]
        for name in ("loss", "grad_norm", "logit_scale"):
            assert other[name] == pytest.approx(line[name], rel=rel), (line["step"], name)
        assert other["loss_parts"] == pytest.approx(line["loss_parts"], rel=rel)
    logs = [(trainer.run_dir / "draw_log.jsonl").read_text() for trainer in (one, two)]
    assert logs[0] == logs[1]
    weights = [load_checkpoint(trainer.run_dir / "checkpoints" / f"step_{STEPS:06d}").model for trainer in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name in (name for name in weights[0] if "running" in name):
        np.testing.assert_allclose(weights[1][name], weights[0][name], rtol=10 * rel, atol=1e-6)


ENDLESS = {"ranks": 2, "deterministic": False, "steps": 100_000}


def test_a_stop_of_one_rank_stops_all_at_one_step_with_one_checkpoint(start):
    config = config_for(**ENDLESS)
    with closing(filled_ring(config)) as ring:
        trainer = start(ring, config)
        trainer.wait_until(lambda: len(trainer.metrics()) >= 3)
        os.kill(trainer.processes[1].pid, signal.SIGTERM)  # rank 0 learns of it at the step barrier alone
        assert trainer.wait(60) == [0, 0], [log.read_text() for log in trainer.logs]
        (untrained, _), (step, folder) = list_checkpoints(trainer.run_dir)
        assert untrained == 0 and step == len(trainer.metrics()) == ring.step
        saved = load_checkpoint(folder)
        assert saved.meta["final"] and saved.training["data"]["step"] == step


def test_the_others_end_when_a_rank_is_killed_and_say_that_it_was_not_them(start):
    config = config_for(**ENDLESS)
    with closing(filled_ring(config)) as ring:
        for victim in (1, 0):
            trainer = start(ring, config)
            trainer.wait_until(lambda: len(trainer.metrics()) >= 3)  # noqa: B023 called at once
            os.kill(trainer.processes[victim].pid, signal.SIGKILL)
            began = time.monotonic()
            codes = trainer.wait(60)
            assert time.monotonic() - began < 30
            assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == RankLost.exit_code, codes
            assert f"error: another rank is gone: rank {1 - victim} was " in trainer.log(1 - victim).splitlines()[-1]
            ring.reap()
            assert sum(kind["leased"] for kind in ring.stats().groups.values()) == 0


def test_starved_ranks_say_what_is_missing_once(start):
    config = config_for(ranks=2, deterministic=False)
    config = config.model_copy(update={"ring": config.ring.model_copy(update={"draw_timeout_s": 1.0})})
    with closing(filled_ring(config, tasks=4)) as ring:
        trainer = start(ring, config)
        assert trainer.wait() == [1, RankLost.exit_code], [log.read_text() for log in trainer.logs]
        assert "error: step 0" in trainer.log(0).splitlines()[-1]
        assert trainer.log(1).splitlines()[-1] == "error: step 0: rank 0 has no batch: see the error in its log"


def test_several_ranks_leave_behind_what_one_process_does(start):
    lanes = []
    for ranks in (1, 2):
        trainer = finished(start, config_for(ranks=ranks, deterministic=False, leftover_age=30))
        lanes.append(trainer.metrics()[-1]["leftover"])
    assert lanes[0] == lanes[1]
    assert lanes[1]["displaced"]["trained"] > 0
