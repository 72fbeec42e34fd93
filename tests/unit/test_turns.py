"""Turns on a shared device: first come first served, one at a time, and nobody dead in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.turns import POLL_S, Turns

OTHER = """
import sys
from pathlib import Path
from polygen_stream.turns import Turns
turns = Turns(Path(sys.argv[1]), "cuda:0", 5.0)
for line in sys.stdin:
    if line.strip() == "give": turns.give()
    print(turns.ask() if line.strip() == "ask" else turns.contested(), flush=True)
"""


class Other:
    """Another process with its place in the queue."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def __call__(self, word: str) -> bool:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "True"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def other(tmp_path):
    process = Other(tmp_path)
    yield process
    process.kill()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_second_waits_until_the_first_gives_and_then_the_first_waits(tmp_path, other):
    mine = Turns(tmp_path, "cuda:0", 5.0)
    assert mine.ask() and not other("ask")
    mine.give()
    assert other("ask") and not mine.ask()
    assert not mine.contested(), "who waits has nothing to give"
    other("give")
    assert mine.ask()


def test_a_turn_ends_after_its_time_and_only_when_somebody_waits(tmp_path, other):
    clock = Clock()
    mine = Turns(tmp_path, "cuda:0", 5.0, clock)
    assert mine.ask()
    clock.now += 50
    assert not mine.over() and not mine.waiting()
    other("ask")
    clock.now += POLL_S
    assert mine.over() and mine.waiting()
    mine.worked()
    assert not mine.waiting(), "it has just used the device"
    mine.give()
    other("give")
    assert mine.ask() and not mine.over(), "a new turn"


def test_a_process_that_was_killed_holds_nothing(tmp_path, other):
    mine = Turns(tmp_path, "cuda:0", 5.0)
    assert other("ask") and not mine.ask()
    other.kill()
    assert mine.ask()
    assert [pid for pid, _ in json.loads((tmp_path / "cuda-0.json").read_text())] == [os.getpid()]


def test_devices_have_queues_of_their_own_and_without_turns_there_are_none(tmp_path, other):
    assert other("ask")
    assert Turns(tmp_path, "cuda:1", 5.0).ask()
    free = Turns(tmp_path / "none", "cuda:0", 0.0)
    assert free.ask() and free.mine and not free.over() and not free.contested()
    free.give()
    assert free.mine and not (tmp_path / "none").exists()
