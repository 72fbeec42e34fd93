"""A trainer of two real ranks under the real supervisor: one is killed, or all are told to stop."""

from __future__ import annotations

import signal
import time

from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.train.checkpoint import load_checkpoint

GANG = ("--train.ranks", "2", "--train.steps", "100000", "--train.checkpoint_every", "100000", "--evaluate.every", "0",
        "--captions.target", "0", "--launch.restarts", "0")  # fmt: skip
START_S = 250.0  # two imports of torch and all that comes with it


def test_a_killed_rank_is_named_and_nothing_is_left(start_toy):
    run = start_toy(*GANG)
    run.wait_until(lambda: run.steps() > 2, "three steps", START_S)
    run.process("trainer-1").send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert run.wait() == 1
    assert time.monotonic() - began < 30
    assert "error: trainer rank 1 died with signal SIGKILL" in run.stderr
    assert f"{run.run_dir}/logs/trainer-1.log" in run.stderr
    run.assert_nothing_left()


def test_ctrl_c_leaves_a_checkpoint_that_loads(start_toy):
    run = start_toy(*GANG)
    run.wait_until(lambda: run.steps() > 2, "three steps", START_S)
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    (untrained, _), (step, folder) = list_checkpoints(run.run_dir)
    assert untrained == 0 and step == run.steps()
    assert load_checkpoint(folder).meta["final"]
    assert f"stopped at step {step}, checkpoint at {folder}" in run.stderr
    assert "error" not in run.stderr
    run.assert_nothing_left()
