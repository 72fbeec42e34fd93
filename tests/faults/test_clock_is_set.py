"""Runs whose clock is set back or forward while they train, as by a time server, a suspended machine or a person."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from launched_runs import Launched, resumed_toy
from shifted_clock import ShiftedClock

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.launch.watch.status_query import status_of
from polygen_stream.launch.watch.trace_export import write_trace

HOUR = 3600
ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.trace", "true")
REAL = (
    "--captions.source", "grammar", "--captions.target", "60", "--generators.recipes", "micro/sdxl_turbo",
    "--generators.positives", "1", "--generators.negatives", "1", "--generators.backend", "eager",
    "--train.batch", "8", "--train.steps", "30", "--train.warmup", "5", "--train.checkpoint_every", "30",
    "--ring.slots", "256", "--ring.min_fill", "16", "--evaluate.every", "0", "--evaluate.images_per_thing", "1",
)  # fmt: skip


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("a clock of the processes' own needs a C compiler")
    folder = tmp_path / "clock"
    folder.mkdir()
    clock = ShiftedClock(folder)
    clock.set(-HOUR)
    assert -HOUR - 5 < clock.read() - time.time() < -HOUR + 5, "the processes would have the machine's own clock"
    clock.set(0)
    return clock


def assert_plausible(found: dict) -> None:
    """Of `status`, of a run that is a minute old at most."""
    assert 0 < found["seconds"] < 120
    assert found["eta_s"] > 0 and 1 < found["steps_per_second"] < 1000
    assert 0 <= found["checkpoint"]["age_s"] < 60
    assert all(row["images_per_second"] >= 0 for row in found["generators"].values())
    ages = [row["heartbeat_age_s"] for row in found["processes"] if row["heartbeat_age_s"] is not None]
    assert len(ages) >= 4 and all(0 <= age < 10 for age in ages)
    assert 0 <= found["trainer_wait_share"] <= 1 and 0 <= found["producers_wait_share"] <= 1


def train_on(run: Launched, steps: int = 60) -> None:
    goal = run.steps() + steps
    run.wait_until(lambda: run.steps() >= goal, f"{steps} more steps")


def evaluated(run: Launched) -> list[int]:
    return [line["step"] for line in read_jsonl(run.run_dir / "eval.jsonl")]


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
def test_a_run_whose_clock_is_set_goes_on_and_tells_the_truth(tmp_path, start_toy, clock, shift):
    run = start_toy(*ENDLESS, "--launch.hang_timeout_s", "15", **clock.environment)
    train_on(run, 45)
    living = {name: process.pid for name, process in run.processes().items()}
    clock.set(shift)
    train_on(run)
    assert_plausible(status_of(run.run_dir))
    run.process("captioner").kill()
    run.wait_until(lambda: any((run.run_dir / "trace").glob("captioner.*")) and run.handles("captioner", signal.SIGTERM)
                   and run.processes()["captioner"].pid != living["captioner"], "the captioner to be back")  # fmt: skip
    train_on(run)
    assert_plausible(status_of(run.run_dir))
    clock.set(2 * shift)
    train_on(run)
    assert_plausible(status_of(run.run_dir))
    steps = evaluated(run)
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] >= 100
    now = {name: process.pid for name, process in run.processes().items() if name in living}
    assert now == living | {"captioner": now["captioner"]}, "nothing was killed but what the test killed"
    run.process("supervisor").send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    run.assert_nothing_left()
    assert 0 < run.summary["seconds"] < 120

    again = resumed_toy(tmp_path / "again", run, **clock.environment)
    try:
        train_on(again, 30)
        again.process("supervisor").send_signal(signal.SIGTERM)
        assert again.wait() == 128 + signal.SIGTERM
        again.assert_nothing_left()
    finally:
        again.close()
    metrics = list(read_jsonl(run.run_dir / "metrics.jsonl", strict=True))
    assert [line["step"] for line in metrics] == list(range(len(metrics)))
    events = list(read_jsonl(run.run_dir / "events.jsonl", strict=True))
    assert [event["event"] for event in events] == ["restart", "resume"]
    restart, resume = (datetime.fromisoformat(event["time"]).timestamp() for event in events)
    assert abs(resume - restart - shift) < 120, "the clock was set in between"

    # A trace has everything on one clock: the events lie among the spans, in their order.
    write_trace(run.run_dir, out := tmp_path / "trace.json")
    found = json.loads(out.read_text())["traceEvents"]
    end = max(event["ts"] + event["dur"] for event in found if event["ph"] == "X")
    marks = [event["ts"] for event in found if event["ph"] == "i"]
    assert 0 < marks[0] < marks[1] < end < 240e6


def test_a_real_run_whose_clock_is_set_completes_with_its_scores_in_order(tmp_path, clock):
    command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir"]
    run = Launched(tmp_path / "real", command, REAL, **clock.environment)
    try:
        for goal, shift in ((5, -HOUR), (15, HOUR)):
            run.wait_until(lambda goal=goal: run.steps() >= goal, f"{goal} steps", 80)
            clock.set(shift)
        assert run.wait(120) == 0, run.stderr
        run.assert_nothing_left()
        assert run.summary["status"] == "completed" and run.summary["steps"] == 30 and not run.summary["missing"]
        assert 0 < run.summary["seconds"] < 200 and run.summary["restarts"] == []
        times = [line["time"] for line in read_jsonl(run.run_dir / "metrics.jsonl", strict=True)]
        assert len(times) > 2 and all(0 < later - earlier < 60 for earlier, later in pairwise(times))
        assert evaluated(run) == [0, 30]
        assert (run.run_dir / "report.html").is_file()
    finally:
        run.close()
