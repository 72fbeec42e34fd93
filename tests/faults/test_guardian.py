"""The guardian alone, as a process of its own on a pipe."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from polygen_stream.launch import guardian


def test_shared_memory_with_the_mark_of_the_run_is_removed_and_no_other(tmp_path):
    """As of the named locks of vLLM's engines."""
    ours, other = (Path("/dev/shm") / f"sem.mp-{secrets.token_hex(8)}-x" for _ in range(2))
    try:
        ours.write_bytes(b"lock"), other.write_bytes(b"lock")
        guardian.remove_temporary(str(tmp_path / f"polygen-stream-{ours.name.split('-')[1]}"), str(tmp_path / "run"))
        assert not ours.exists() and other.exists()
    finally:
        ours.unlink(missing_ok=True), other.unlink(missing_ok=True)


def test_helpers_of_a_dead_leader_are_ended_although_they_hide_their_mark(tmp_path):
    """As vLLM's engines do, which write their name over their environment."""
    read_end, lifeline = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", guardian.__file__, "mark", str(tmp_path / "scratch"), str(tmp_path)],
        stdin=read_end,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    leader = subprocess.Popen(
        ["sh", "-c", "env -i sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    helper = psutil.Process(int(leader.stdout.readline()))
    try:
        os.write(lifeline, f"add {leader.pid} {guardian.start_time(leader.pid)}\n".encode())
        leader.kill()
        leader.wait()
        assert helper.is_running() and guardian.marked("mark") == []
        os.close(lifeline)
        watcher.wait(timeout=20)
        deadline = time.monotonic() + 5
        while helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the helper lives on"
            time.sleep(0.01)
    finally:
        if helper.is_running():
            helper.kill()


@pytest.mark.quick
def test_a_machine_without_shared_memory_has_nothing_to_remove_there(tmp_path, monkeypatch):
    monkeypatch.setattr(guardian, "SHARED_MEMORY", str(tmp_path / "none"))
    (tmp_path / ".partial-left").write_text("")
    guardian.remove_temporary(str(tmp_path / "scratch-mark"), str(tmp_path))
    assert not list(tmp_path.iterdir())
