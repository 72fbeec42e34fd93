"""The guardian alone, as a process of its own on a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from polygen_stream.launch import guardian


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
