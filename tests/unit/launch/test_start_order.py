"""In which order the processes of a run start, with a real ring and its table of processes."""

from __future__ import annotations

import os
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from small_rings import small_spec

from polygen_stream.config import load_config
from polygen_stream.launch.children import Child
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.launch.start_order import HOLDS_UP_S, StartQueue
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.run_status import StatusTracker
from polygen_stream.ring import Ring

TWO = {"generators.recipes": "micro/sd15,micro/sana"}


@pytest.fixture
def ring():
    with closing(Ring.create(small_spec(min_fill=4))) as ring:
        yield ring


def started(process, tmp_path, pid: int = os.getpid(), at: float = 0.0) -> Child:
    handle: Any = SimpleNamespace(pid=pid)
    return Child(process, handle, tmp_path / "log", at)


def queue(words=TWO, at_once: int = 1) -> StartQueue:
    plan = build_process_plan(load_config(None, words))
    return StartQueue(plan.with_role("captioner", "renderer", "trainer"), at_once)


def names(processes) -> list[str]:
    return [process.name for process in processes]


def test_with_a_core_for_each_all_start_at_once(ring):
    waiting = queue(at_once=4)
    due = waiting.due([], ring.stats(), 0.0)
    assert names(due) == ["captioner", "renderer-micro-sd15", "renderer-micro-sana", "trainer"]
    waiting.remove(due)
    assert waiting.left == []


def test_the_next_one_starts_when_the_one_before_has_loaded(ring, tmp_path):
    waiting = queue()
    [captioner] = due = waiting.due([], ring.stats(), 0.0)
    assert captioner.name == "captioner"
    waiting.remove(due)
    children = [started(captioner, tmp_path)]
    assert waiting.due(children, ring.stats(), 1.0) == [], "it imports"
    ring.register("captioner", "captioner")
    ring.heartbeat("loading package:mistral")
    assert waiting.due(children, ring.stats(), 2.0) == [], "it loads"
    ring.heartbeat("writing captions", busy_s=0.1)
    assert names(waiting.due(children, ring.stats(), 3.0)) == ["renderer-micro-sd15"]


def test_a_process_that_waits_or_has_died_or_takes_long_does_not_hold_up_others(ring, tmp_path):
    waiting = queue()
    due = waiting.due([], ring.stats(), 0.0)
    waiting.remove(due)
    [child] = children = [started(*due, tmp_path)]
    assert waiting.due(children, ring.stats(), HOLDS_UP_S - 1) == []
    assert names(waiting.due(children, ring.stats(), HOLDS_UP_S + 1)) == ["renderer-micro-sd15"]
    ring.register("captioner", "captioner")
    ring.heartbeat("waiting for its turn on cuda:0")
    assert names(waiting.due(children, ring.stats(), 1.0)) == ["renderer-micro-sd15"]
    ring.heartbeat("loading package:mistral")
    child.returncode = -9
    assert names(waiting.due(children, ring.stats(), 1.0)) == ["renderer-micro-sd15"]


def test_the_ranks_of_a_trainer_start_together(ring):
    waiting = queue({**TWO, "train.ranks": "3"})
    for expected in (["captioner"], ["renderer-micro-sd15"], ["renderer-micro-sana"]):
        due = waiting.due([], ring.stats(), 0.0)
        assert names(due) == expected
        waiting.remove(due)
    assert names(waiting.due([], ring.stats(), 0.0)) == ["trainer-0", "trainer-1", "trainer-2"]


def test_what_due_returned_stays_due_until_it_has_been_started(ring):
    """The ring's mutex may not be had when a process is to be started."""
    waiting = queue()
    assert waiting.due([], ring.stats(), 0.0) == waiting.due([], ring.stats(), 0.0) != []


def test_the_status_says_what_the_first_step_waits_for(ring, tmp_path):
    waiting, tracker, tail = queue(), StatusTracker(tmp_path), MetricsTail(tmp_path / "metrics.jsonl")
    captioner, *later = waiting.left
    children = [started(captioner, tmp_path)]
    to_start = [process.label for process in later]

    def said(*more: str) -> str:
        return tracker.take(ring.stats(), tail, children, more).starting

    assert said(*to_start) == (
        "starting captioner (importing its libraries), then renderer micro/sd15 and 2 more; 0 of 4 captions complete"
    )
    ring.register("captioner", "captioner")
    ring.heartbeat("loading package:mistral")
    assert said() == "starting captioner (loading package:mistral); 0 of 4 captions complete"
    ring.heartbeat("writing captions", busy_s=0.1)
    assert said() == "filling the ring: 0 of 4 complete captions before the first step"
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "wait_s": 0.1, "step_s": 0.1}\n')
    tail.read()
    assert said() == ""
