"""`polygen-stream limits` on toy runs."""

from __future__ import annotations

import signal
import subprocess
import sys

from launched_runs import Launched


def limits(run: Launched, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "limits", str(run.run_dir), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_limits_of_a_run_change_while_it_trains(start_toy):
    run = start_toy("--train.steps", "100000", "--captions.target", "0")
    run.wait_until(lambda: run.steps() > 5, "five steps")
    shown = limits(run)
    assert shown.returncode == 0, shown.stderr
    assert "ring.max_times_sampled = 0\n" in shown.stdout

    changed = limits(run, "--max-times-sampled", "9")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout == shown.stdout.replace("ring.max_times_sampled = 0", "ring.max_times_sampled = 9")

    refused = limits(run, "--samples-per-insert", "4", "--error-buffer", "1")
    assert refused.returncode == 2
    assert "narrower than" in refused.stderr and "Traceback" not in refused.stderr
    assert limits(run).stdout == changed.stdout

    steps = run.steps()
    run.wait_until(lambda: run.steps() > steps + 5, "five more steps under the new limit")
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left()
    over = limits(run, "--max-age", "3")
    assert over.returncode == 2
    assert f"no run is going on in {run.run_dir}" in over.stderr
