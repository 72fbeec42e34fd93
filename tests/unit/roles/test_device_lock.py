"""DeviceLock on a shared device: first come first served, one at a time, and nobody dead in the way."""

from __future__ import annotations

import json
import os

import pytest

from polygen_stream.roles.device_lock import POLL_S, DeviceLock
from tests.helpers.device_queue import Other


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
    mine = DeviceLock(tmp_path, "cuda:0", 5.0)
    assert mine.try_acquire() and not other("ask")
    mine.release()
    assert other("ask") and not mine.try_acquire()
    assert not mine.contested(), "who waits has nothing to give"
    other("give")
    assert mine.try_acquire()


def test_a_turn_ends_after_its_time_and_only_when_somebody_waits(tmp_path, other):
    clock = Clock()
    mine = DeviceLock(tmp_path, "cuda:0", 5.0, clock)
    assert mine.try_acquire()
    clock.now += 50
    assert not mine.slice_expired() and not mine.idle_while_contested()
    other("ask")
    clock.now += POLL_S
    assert mine.slice_expired() and mine.idle_while_contested()
    mine.touch()
    assert not mine.idle_while_contested(), "it has just used the device"
    mine.release()
    other("give")
    assert mine.try_acquire() and not mine.slice_expired(), "a new turn"


def test_a_process_that_was_killed_holds_nothing(tmp_path, other):
    mine = DeviceLock(tmp_path, "cuda:0", 5.0)
    assert other("ask") and not mine.try_acquire()
    other.kill()
    assert mine.try_acquire()
    assert [pid for pid, _ in json.loads((tmp_path / "cuda-0.json").read_text())] == [os.getpid()]


def test_devices_have_queues_of_their_own_and_without_turns_there_are_none(tmp_path, other):
    assert other("ask")
    assert DeviceLock(tmp_path, "cuda:1", 5.0).try_acquire()
    free = DeviceLock(tmp_path / "none", "cuda:0", 0.0)
    assert free.try_acquire() and free.held and not free.slice_expired() and not free.contested()
    free.release()
    assert free.held and not (tmp_path / "none").exists()


def test_a_clock_that_is_set_back_takes_nobody_for_dead(tmp_path, other, monkeypatch):
    first = DeviceLock(tmp_path, "cuda:0", 5.0)
    assert first.try_acquire() and not other("ask")
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0)
    assert first.contested() and first.held
