"""kill -9 of any one process of a real run, models and all, at a moment nobody chose."""

from __future__ import annotations

import json
import random
import signal
import sys
import time

import pytest
from launched_runs import Launched

TINY = (
    "--generators.recipes", "micro/sd15,micro/sana",
    "--train.batch", "8",
    "--ring.min_fill", "8",
    "--evaluate.images_per_thing", "2",
)  # fmt: skip
ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.restarts", "0")
LABELS = {
    "trainer": "trainer",
    "renderer-micro-sana": "renderer micro/sana",
    "captioner": "captioner",
    "evaluator": "evaluator",
    "guardian": "guardian",
    "supervisor": "the supervisor",
}


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*words: str) -> Launched:
        command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir"]
        started.append(Launched(tmp_path, command, (*TINY, *words)))
        return started[-1]

    yield start
    for run in started:
        run.close()


def assert_trains_on(run: Launched) -> None:
    """The evaluator is no reason to end a run: training goes on, and stops when asked to."""
    run.wait_until(lambda: "evaluator died with signal SIGKILL" in run.stdout, "its death to be said")
    steps = run.steps()
    run.wait_until(lambda: run.steps() > steps, "a step without it", limit_s=240)
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left(limit_s=5)


def assert_named_and_gone(run: Launched, victim: str) -> None:
    if victim.startswith("renderer"):
        return run.assert_goes_on_without(LABELS[victim])
    if victim == "evaluator":
        return assert_trains_on(run)
    code = run.wait(limit_s=60)
    run.assert_nothing_left(limit_s=5)
    if victim == "supervisor":
        assert code == -signal.SIGKILL
        assert "error: the supervisor was killed" in run.stderr
    else:
        assert code == 1
        assert f"error: {LABELS[victim]} died with signal SIGKILL" in run.stderr
        assert run.summary["status"] == "failed"


@pytest.mark.parametrize("victim", ["renderer-micro-sana", "supervisor"])
def test_kill_during_start_up(start, victim):
    run = start(*ENDLESS)
    run.process("captioner")
    if victim != "supervisor":
        run.process(victim)
    run.process(victim).send_signal(signal.SIGKILL)
    assert_named_and_gone(run, victim)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("victim", LABELS)
def test_kill_at_any_moment(start, victim, seed):
    run = start(*ENDLESS)
    run.process("guardian")  # before it there is nothing to leave behind
    if victim == "evaluator":
        run.wait_until(lambda: run.steps() > 0, "the first step", limit_s=240)
    process = run.process(victim)
    moment_s = random.Random(f"{victim} {seed}").uniform(0, 40)
    end = time.monotonic() + moment_s
    run.wait_until(lambda: time.monotonic() > end, "the moment", limit_s=moment_s + 60)
    process.send_signal(signal.SIGKILL)
    assert_named_and_gone(run, victim)


@pytest.mark.slow
@pytest.mark.timeout(900)  # trains and evaluates to the end first
def test_kill_of_the_report(start):
    run = start("--train.steps", "2", "--captions.target", "20", "--launch.restarts", "0")
    run.wait_until(lambda: "report" in run.processes(), "the report", limit_s=840)
    run.process("report").send_signal(signal.SIGKILL)
    assert run.wait() == 0, run.stderr
    assert "warning: no report: report died with signal SIGKILL" in run.stderr
    assert f"polygen-stream report {run.run_dir}" in run.stderr
    run.assert_nothing_left()


@pytest.mark.slow
def test_interrupt_writes_a_checkpoint(start):
    run = start(*ENDLESS)
    run.wait_until(lambda: run.steps() > 3, "three steps", limit_s=240)
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    steps = run.steps()
    checkpoint = run.run_dir / "checkpoints" / f"step_{steps:06d}"
    assert json.loads((checkpoint / "meta.json").read_text())["final"] is True
    assert (checkpoint / "model.safetensors").stat().st_size > 0
    assert f"stopped at step {steps}, checkpoint at {checkpoint}" in run.stderr
    run.assert_nothing_left()
