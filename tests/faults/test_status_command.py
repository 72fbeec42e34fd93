"""`polygen-stream status` on toy runs: while they go on, when they are over, and when nobody is left to say so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from launched_runs import Launched

from polygen_stream.base.errors import PolygenError
from polygen_stream.launch.watch.control_protocol import address
from polygen_stream.launch.watch.status_query import status_of

ENDLESS = (
    "--train.steps",
    "100000",
    "--captions.target",
    "0",
    "--train.checkpoint_every",
    "5",
    "--evaluate.every",
    "0",
)


def status(folder, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "status", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def training(start_toy, *words: str) -> Launched:
    run = start_toy(*ENDLESS, *words)
    run.wait_until(lambda: run.steps() > 10, "ten steps")
    return run


@pytest.mark.quick
def test_a_running_run_one_of_whose_processes_died(start_toy):
    run = training(start_toy)
    run.process("captioner").kill()
    run.wait_until(lambda: (run.run_dir / "events.jsonl").exists(), "the restart to be noted")
    found = status_of(run.run_dir)
    assert (found["state"], found["steps"]) == ("running", 100000)
    assert 10 < found["step"] <= run.steps() + 1
    assert found["eta_s"] > 0 and found["steps_per_second"] > 0
    assert (found["loss"], found["p"]) == (1.0, 0.25)
    assert found["captions"]["pair"]["complete"] > 0
    assert found["generators"]["micro/sana"]["images"] > 0
    assert 0 <= found["generators"]["micro/sana"]["backlog"] <= 256
    assert found["checkpoint"]["step"] >= 5 and found["checkpoint"]["age_s"] < 120
    assert found["restarts"] == {"captioner": 1}
    assert found["events"][-1]["event"] == "restart"
    rows = {row["name"]: row for row in found["processes"]}
    assert rows["trainer"]["pid"] == run.process("trainer").pid
    assert rows["trainer"]["alive"] and rows["trainer"]["heartbeat_age_s"] < 60
    assert 0 <= rows["trainer"]["wait_share"] <= 1
    for expected in ("running", "renderer micro/sana", "captioner 1", "last checkpoint"):
        assert expected in status(run.run_dir).stdout
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left()
    assert status_of(run.run_dir)["state"] == "interrupted"


def test_a_run_that_is_over(start_toy):
    run = start_toy("--captions.target", "60")
    assert run.wait() == 0
    done = status(run.run_dir, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["step"], found["eta_s"]) == ("completed", 40, None)
    assert {name: counts["images"] for name, counts in found["generators"].items()} == {
        "micro/sd15": 120,
        "micro/sana": 120,
    }
    assert not any(row["alive"] for row in found["processes"])


def test_a_killed_run_with_and_without_checkpoints(start_toy):
    run = training(start_toy)
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
    found = status_of(run.run_dir)
    assert found["state"] == "killed" and found["step"] > 10 and found["captions_opened"] > 0
    for file in run.run_dir.glob("checkpoints/step_*/ring.safetensors"):
        file.unlink()
    found = status_of(run.run_dir)
    assert found["state"] == "killed" and found["step"] > 10 and found["captions_opened"] == 0


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path):
    done = status(tmp_path)
    assert done.returncode == 2
    refusal = f"{tmp_path} is no run folder (it has no config.toml): name the folder that `run` printed"
    assert done.stderr == f"error: {refusal}\n"


def test_a_supervisor_that_stands_still_is_named(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(address(tmp_path))
        silent.listen()
        with pytest.raises(PolygenError, match=rf"the supervisor \(pid {os.getpid()}\) of .* gave no answer in 0.1 s"):
            status_of(tmp_path, answer_limit_s=0.1)
