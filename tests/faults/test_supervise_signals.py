"""Ctrl-C and SIGTERM at the supervisor: checkpoint first, exit code 128 + signal, nothing left."""

from __future__ import annotations

import json
import signal
import time

import pytest

ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.restarts", "0")


@pytest.mark.quick
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_with_a_checkpoint(start_toy, number):
    run = start_toy(*ENDLESS)
    run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process("supervisor").send_signal(number)
    assert run.wait() == 128 + number
    steps = run.steps()
    checkpoint = run.run_dir / "checkpoints" / f"step_{steps:06d}"
    meta = json.loads((checkpoint / "meta.json").read_text())
    assert (meta["step"], meta["final"]) == (steps, True)
    assert f"stopped at step {steps}, checkpoint at {checkpoint}" in run.stderr
    assert run.summary["status"] == "interrupted"
    assert run.summary["steps"] == steps
    run.assert_nothing_left()


def test_signal_during_start_up_stops_without_a_checkpoint(start_toy):
    run = start_toy(*ENDLESS)
    run.process("trainer")
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert "stopped at step 0" in run.stderr and "died with signal SIGTERM" not in run.stderr
    run.assert_nothing_left()


def test_second_signal_does_not_wait_for_a_stuck_trainer(start_toy):
    run = start_toy(*ENDLESS, "--launch.grace_s", "600", TOY_FAULT="trainer:silence")
    run.wait_until(lambda: run.handles("trainer", signal.SIGTERM), "the trainer's handler")
    run.process("supervisor").send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert run.popen.poll() is None, "the first signal must leave the trainer its time"
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert "error: while stopping, trainer did not stop in time and was killed" in run.stderr
    run.assert_nothing_left()


def test_trainer_that_does_not_stop_is_killed_after_the_grace_time(start_toy):
    run = start_toy(*ENDLESS, "--launch.grace_s", "1", TOY_FAULT="trainer:silence")
    run.wait_until(lambda: run.handles("trainer", signal.SIGTERM), "the trainer's handler")
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left()
