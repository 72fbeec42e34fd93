"""A limit on a process counts what it could compute."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from polygen_stream.launch.compute_clock import ComputeClock, kept_waiting_s

BUSY = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.nice(int(sys.argv[2]))
print(flush=True)
while True:
    pass
"""


@pytest.fixture
def busy():
    """busy(nice) -> a process that computes, on one core that all of them share."""
    core, started = min(os.sched_getaffinity(0)), []

    def start(nice: int) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", BUSY, str(core), str(nice)], stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_seconds_in_which_others_had_the_core_do_not_count(busy):
    starved, others = busy(19), [busy(0), busy(0)]
    clock, began = ComputeClock(), time.monotonic()
    while kept_waiting_s(starved.pid) < 2.0:
        counted = clock.look(starved.pid)
        assert time.monotonic() - began < 60, "it is not kept waiting"
        time.sleep(0.05)
    # Other load may keep `starved` from its core for longer than the others here do, never for less.
    assert others and counted < time.monotonic() - began - 1.0


def test_seconds_of_sleep_count_and_a_pause_of_the_run_does_not(monkeypatch):
    now = iter([0.0, 0.1, 0.2, 3600.0, 3600.1])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    monkeypatch.setattr("polygen_stream.launch.compute_clock.kept_waiting_s", lambda pid: 0.0)
    clock = ComputeClock()
    assert [round(clock.look(pid), 3) for pid in (1, 1, 1, 1, 1)] == [0.0, 0.1, 0.2, 5.2, 5.3]


def test_a_process_that_has_ended_waits_for_nothing():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert kept_waiting_s(ended.pid) == 0.0
