"""`polygen-stream inspect` on toy runs: what it sees, and that nothing it does or suffers disturbs the run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from launched_runs import Launched
from PIL import Image

from polygen_stream.base.errors import PolygenError
from polygen_stream.launch.watch.control_protocol import address, encode
from polygen_stream.launch.watch.inspect_client import open_inspected

ENDLESS = ("--train.steps", "100000", "--captions.target", "0")


def inspect(run: Launched, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "inspect", str(run.run_dir), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def training(start_toy, *words: str) -> Launched:
    run = start_toy(*ENDLESS, *words)
    run.wait_until(lambda: run.steps() > 5, "five steps")
    return run


def end(run: Launched) -> None:
    """What an inspected run does in the end is what any run does."""
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    run.assert_nothing_left()


def test_a_running_run(start_toy, tmp_path):
    run = training(start_toy)
    done = inspect(run, "--json", "--images", str(tmp_path / "grid.png"), "--count", "3")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["running"] is True
    owners = {owner["name"]: owner for owner in found["owners"]}
    for name in ("trainer", "captioner", "renderer-micro-sd15", "renderer-micro-sana"):
        assert owners[name]["alive"] is True
        assert owners[name]["pid"] == run.process(name).pid
    assert found["stats"]["draws"] > 0
    assert found["stats"]["groups"]["pair"]["complete"] > 0
    assert found["members"]["micro/sd15"]["ready"] > 0
    with Image.open(tmp_path / "grid.png") as grid:
        colours = dict((colour, count) for count, colour in grid.convert("RGB").getcolors(maxcolors=2**24))
    assert colours[128, 128, 128] > 1000, "the toy renderer paints grey"
    end(run)


def test_a_run_that_is_over_shows_how_it_ended(start_toy):
    run = start_toy("--captions.target", "60")
    assert run.wait() == 0
    done = inspect(run, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["running"] is False
    assert found["stats"]["images_committed"] == {"micro/sd15": 120, "micro/sana": 120}
    assert found["stats"]["finished_opening"] is True


def test_of_a_killed_run_the_ring_of_its_newest_checkpoint_is_left(start_toy):
    run = training(start_toy)
    run.wait_until(lambda: any(run.run_dir.glob("checkpoints/step_*/ring.safetensors")), "a checkpoint with its ring")
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
    done = inspect(run)
    assert done.returncode == 0, done.stderr
    assert "checkpoints/step_" in "".join(done.stdout.split())  # a terminal of 80 columns breaks the path
    for snapshot in run.run_dir.glob("checkpoints/step_*/ring.safetensors"):
        snapshot.unlink()
    done = inspect(run)
    assert done.returncode == 2
    assert f"the run in {run.run_dir} is over and left no ring.safetensors" in done.stderr


def test_inspectors_that_stop_or_go_away_do_not_matter(start_toy):
    """They never ask, or never read, or are gone before the answer: the next one is served, the run goes on."""
    run = training(start_toy)
    idle = []
    for number in range(10):
        idle.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        idle[-1].connect(address(run.run_dir))
        if number % 2:
            idle[-1].sendall(encode({"verb": "inspect"}))
    for connection in idle[:5]:
        connection.close()
    for _ in range(3):
        assert open_inspected(run.run_dir).running
    steps = run.steps()
    run.wait_until(lambda: run.steps() > steps + 20, "further steps")
    for connection in idle[5:]:
        connection.close()
    end(run)


def test_a_stopped_supervisor_is_named(start_toy):
    run = training(start_toy)
    run.process("supervisor").send_signal(signal.SIGSTOP)
    with pytest.raises(PolygenError, match=rf"supervisor \(pid {run.popen.pid}\) of .* gave no answer in 1 s"):
        open_inspected(run.run_dir, answer_limit_s=1.0)
    run.process("supervisor").send_signal(signal.SIGCONT)
    assert open_inspected(run.run_dir).running
    end(run)


def test_the_inspector_cannot_write_into_the_ring(start_toy):
    run = training(start_toy)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(address(run.run_dir))
        connection.sendall(encode({"verb": "inspect"}))
        _, (snapshot, ring), _, _ = socket.recv_fds(connection, 4096, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(ring, b"x", 0)
    os.close(snapshot)
    os.close(ring)
    end(run)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_is_refused(start_toy):
    run = training(start_toy)
    reader, writer = os.pipe()
    where = address(run.run_dir)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect(where)
            text, descriptors, _, _ = socket.recv_fds(connection, 4096, 2)
        os.write(writer, f"{len(descriptors)} {json.loads(text)['error']}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 4096).decode() == "0 this run belongs to uid 0, not to uid 65534"
    os.close(reader)
    os.close(writer)
    end(run)
