"""A run in surroundings that are not made for it: nobody reads its output, the terminal is closed, the disk is full."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import sys
import threading

import psutil
import pytest
from launched_runs import TOY, Launched

COMMAND = [sys.executable, str(TOY), "supervise"]
SHORT = ("--captions.target", "60", "--train.checkpoint_every", "40")
ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.restarts", "0")


@pytest.fixture
def launch(tmp_path):
    """Starts toy runs: launch(*overrides, command=..., output=..., ...) -> Launched."""
    started = []

    def start(*words: str, command: list[str] = COMMAND, name: str = "a", **how) -> Launched:
        started.append(Launched(tmp_path / name, command, words, **how))
        return started[-1]

    yield start
    for run in started:
        run.close()


def reader_that_leaves() -> tuple[int, threading.Thread]:
    """A pipe, and who closes its other end once something has come through."""
    read_end, write_end = os.pipe()

    def read() -> None:
        os.read(read_end, 10)
        os.close(read_end)

    return write_end, threading.Thread(target=read)


def reader_that_sleeps() -> tuple[int, threading.Thread]:
    """A pipe that is full from the start."""
    _, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write_end, bytes(4096))
    return write_end, threading.Thread(target=lambda: None)


def terminal_that_is_closed() -> tuple[int, threading.Thread]:
    """A terminal whose window is closed while the live screen is on it; nobody sends SIGHUP."""
    master, slave = pty.openpty()

    def read() -> None:
        for _ in range(3):
            os.read(master, 65536)
        os.close(master)

    return slave, threading.Thread(target=read)


def full_disk() -> tuple[int, threading.Thread]:
    return os.open("/dev/full", os.O_WRONLY), threading.Thread(target=lambda: None)


@pytest.mark.parametrize("surroundings", [reader_that_leaves, reader_that_sleeps, terminal_that_is_closed, full_disk])
def test_a_run_completes_although_nobody_reads_what_it_prints(launch, surroundings):
    output, reader = surroundings()
    run = launch(*SHORT, output=output)
    os.close(output)
    reader.start()
    assert run.wait() == 0
    assert run.summary["status"] == "completed" and run.summary["steps"] == 40
    run.assert_nothing_left()
    reader.join(10)


def test_closed_output_odd_paths_and_a_strict_umask(launch):
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND]
    run = launch(*SHORT, command=shell, name="ein Lauf, ä und 雪", umask=0o077)
    assert run.wait() == 0 and run.summary["status"] == "completed"
    assert (run.run_dir / "summary.json").stat().st_mode & 0o077 == 0
    ascii_only = launch(*SHORT, name="noch ein Läufchen", PYTHONIOENCODING="ascii")
    assert ascii_only.wait() == 0 and "run folder: " in ascii_only.stdout
    ascii_only.assert_nothing_left()


def test_nohup_is_heeded(launch):
    run = launch(*ENDLESS, command=["nohup", *COMMAND])
    run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process("supervisor").send_signal(signal.SIGHUP)
    steps = run.steps()
    run.wait_until(lambda: run.steps() > steps + 20, "more steps")
    run.process("supervisor").send_signal(signal.SIGTERM)
    assert run.wait() == 143
    run.assert_nothing_left()


def test_ctrl_z_pauses_the_supervisor_and_the_run_goes_on(launch):
    run = launch(*ENDLESS)
    run.wait_until(lambda: run.steps() > 5, "five steps")
    supervisor = run.process("supervisor")
    supervisor.send_signal(signal.SIGTSTP)
    run.wait_until(lambda: supervisor.status() == psutil.STATUS_STOPPED, "the supervisor to stop")
    steps = run.steps()
    run.wait_until(lambda: run.steps() > steps + 20, "steps without it")
    supervisor.send_signal(signal.SIGCONT)
    supervisor.send_signal(signal.SIGINT)
    assert run.wait() == 130 and run.summary["status"] == "interrupted"
    run.assert_nothing_left()


def test_of_two_runs_in_one_folder_one_is_refused(launch, tmp_path):
    runs = [launch(*SHORT, name=name, run_dir=tmp_path / "one") for name in ("a", "b")]
    codes = [run.wait() for run in runs]
    assert sorted(codes) == [0, 2]
    refused = runs[codes.index(2)]
    assert len(refused.stderr.splitlines()) == 1 and "choose another --run-dir" in refused.stderr
    assert runs[codes.index(0)].summary["status"] == "completed"


def test_what_nobody_foresaw_costs_no_training(launch):
    """Here the log of events cannot be written when a process dies."""
    run = launch("--train.steps", "100000", "--captions.target", "0")
    run.wait_until(lambda: run.steps() > 5, "five steps")
    (run.run_dir / "events.jsonl").mkdir()
    run.process("captioner").kill()
    assert run.wait() == 1
    steps = run.steps()
    assert (run.run_dir / "checkpoints" / f"step_{steps:06d}").is_dir()
    assert "the supervisor failed: IsADirectoryError" in run.summary["error"] and "supervisor.log" in run.stderr
    assert "Traceback" in (run.run_dir / "logs" / "supervisor.log").read_text()
    run.assert_nothing_left()


def test_a_summary_that_cannot_be_written_is_an_error_in_a_line(launch):
    run = launch(*SHORT)
    run.wait_until(run.run_dir.joinpath("metrics.jsonl").exists, "the first step")
    (run.run_dir / "summary.json").mkdir()
    assert run.wait() == 1
    assert f"error: cannot write {run.run_dir}/summary.json: Is a directory" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_checkpoint_that_cannot_be_gone_on_from_is_named_as_the_cause(launch):
    """A deterministic run has closed its ring by then, and cannot have another."""
    run = launch("--ring.mode", "deterministic", "--train.steps", "300", "--captions.target", "64")
    checkpoints = run.run_dir / "checkpoints"
    run.wait_until(lambda: run.steps() > 21, "a checkpoint")
    for meta in checkpoints.glob("*/meta.json"):
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"config_hash": "another"}))
    run.process("trainer").kill()
    assert run.wait() == 2
    assert "another run's or another release's" in run.summary["error"] and "Traceback" not in run.stderr
    run.assert_nothing_left()
