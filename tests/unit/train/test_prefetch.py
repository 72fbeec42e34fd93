"""The next batch is read while a step computes, and nothing else about a run changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

import pytest
import sleeping_device
import torch
from small_rings import open_pair, open_plain, render

from polygen_stream.ring import Ring, RingTimeout
from polygen_stream.schedule.curriculum import Curriculum
from polygen_stream.schedule.leftover import LeftoverQueue
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.data import RingReader
from polygen_stream.train.prefetch import Prefetcher, ReaderHeartbeat
from polygen_stream.train.staging import HostStaging

STEPS, TEXTS = 9, 6


@pytest.mark.extended  # sleeps
@pytest.mark.parametrize("prefetch", [True, False])
def test_a_step_follows_the_one_before_without_a_gap(tmp_path, prefetch: bool):
    """By the metrics of a trainer whose device sleeps: the share of a step in which nothing is computed."""
    lines = sleeping_device.train(tmp_path, 6, prefetch=prefetch)
    steps = list(pairwise(lines[1:]))  # the first one waits for its batch in either case
    gaps = [(after["time"] - before["time"] - after["step_s"]) / after["step_s"] for before, after in steps]
    assert all(line["step_s"] >= sleeping_device.COMPUTE_S for line in lines)
    if prefetch:
        assert median(gaps) < 0.02, gaps
    else:
        assert median(gaps) > 0.2, gaps


class Reading:
    """A reader of a ring behind a prefetcher that reads ahead unless `pause` says so; `with` closes it."""

    def __init__(
        self, ring: Ring, *, share=0.15, pause=lambda step: False, timeout_s=5.0, stop=lambda: False, leftover=None
    ):
        self.said: list[str] = []
        curriculum = Curriculum("constant", 0.0, share, steps=STEPS, texts=TEXTS)
        heartbeat = ReaderHeartbeat()
        reader = RingReader(
            ring,
            curriculum,
            tokenizer=lambda texts: torch.tensor([[len(text)] for text in texts]),
            staging=HostStaging(),
            device=torch.device("cpu"),
            steps=STEPS,
            timeout_s=timeout_s,
            stop=stop,
            leftover=leftover,
            heartbeat=heartbeat,
        )
        self.batches = Prefetcher(
            reader,
            heartbeat,
            heartbeat=self.said.append,
            ahead=lambda step: not pause(step),
            while_waiting=lambda: self.said.append("idle"),
        )

    def __enter__(self) -> Prefetcher:
        return self.batches

    def __exit__(self, *_: object) -> None:
        self.batches.close()


@pytest.fixture
def full(new_ring):
    """full(**spec): a ring with 24 complete groups, every other one a pair."""

    def full(**spec) -> Ring:
        ring = new_ring(slots=256, groups=64, **spec)
        for task in range(24):
            (open_pair if task % 2 else open_plain)(ring, task)
            render(ring)
        return ring

    return full


def wait_for_draws(ring: Ring, draws: int) -> None:
    deadline = time.monotonic() + 30
    while ring.stats().draws < draws or any(kind["leased"] for kind in ring.stats().groups.values()):
        assert time.monotonic() < deadline, ring.stats()
        time.sleep(0.005)


@contextmanager
def later(function: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Call a function 0.3 s after the beginning of the block, which ends after the call."""
    timer = threading.Timer(0.3, function, arguments)
    timer.start()
    yield
    timer.join()


def content(batch: TrainBatch) -> tuple:
    return batch.draw_record, batch.texts, batch.images.tolist(), batch.mix, batch.leftover


def test_the_next_batch_is_drawn_before_it_is_asked_for(full):
    ring = full()
    with Reading(ring) as batches:
        assert next(batches).step == 0
        wait_for_draws(ring, 2)
        assert next(batches).step == 1
        assert [batch.step for batch in batches] == list(range(2, STEPS))
    assert ring.stats().draws == STEPS, "a batch beyond the last step was drawn"


def test_batches_and_what_a_checkpoint_holds_are_those_of_reading_step_by_step(full):
    """In throughput mode with a leftover queue: the next draw depends on all before it."""
    found = {}
    for ahead in (True, False):
        ring = full()
        queue = LeftoverQueue(ring, 64, max_age=3)
        with Reading(ring, pause=lambda step: not ahead or step % 3 == 0, leftover=queue) as batches:  # noqa: B023
            contents, states = [], []
            for batch in batches:
                contents.append(content(batch))
                if (batch.step + 1) % 3 == 0:
                    time.sleep(0.05)  # in which a batch could be drawn
                    states.append((batches.state_dict(), ring.pinned(), ring.stats().draws))
        found[ahead] = contents, states
    assert found[True] == found[False]
    contents, states = found[True]
    assert len(contents) == STEPS and [draws for *_, draws in states] == [3, 6, 9]
    assert any(pinned for _, pinned, _ in states), "the queue was never used"


def test_a_state_continues_where_the_batches_ended(full):
    spec = {"mode": "deterministic", "min_fill": 16, "window": 16, "inserts_per_step": 1.0, "max_open": 0}
    with Reading(full(**spec), pause=lambda step: step == 4) as batches:
        uninterrupted = []
        for batch in batches:
            uninterrupted.append(content(batch))
            if batch.step == 3:
                state = batches.state_dict()
    with Reading(full(**spec)) as batches:
        batches.reset(state)
        assert [content(batch) for batch in batches] == uninterrupted[4:]


def test_the_state_is_refused_while_a_batch_is_ahead(full):
    with Reading(full()) as batches:
        next(batches)
        with pytest.raises(AssertionError, match="not delivered"):
            batches.state_dict()


def test_a_batch_that_was_drawn_is_trained_on_before_a_stop(full):
    ring, stopping = full(), threading.Event()
    with Reading(ring, stop=stopping.is_set) as batches:
        next(batches)
        wait_for_draws(ring, 2)
        stopping.set()
        assert [batch.step for batch in batches] == [1]
        assert batches.state_dict()["step"] == 2


def test_a_reader_that_waits_ends_when_asked_to_stop(new_ring):
    stopping = threading.Event()
    with Reading(new_ring(), timeout_s=60, stop=stopping.is_set) as batches:
        with later(stopping.set), pytest.raises(StopIteration):
            next(batches)
        assert batches.state_dict()["step"] == 0


def test_an_error_of_the_reader_is_raised_as_it_is(new_ring):
    with Reading(new_ring(), timeout_s=0.05) as batches, pytest.raises(RingTimeout, match=r"^step 0"):
        next(batches)


def twelve_captions(ring: Ring, first: int = 0) -> None:
    """Enough for two batches, for none of them may be drawn twice."""
    for task in range(first, first + 2 * TEXTS):
        open_plain(ring, task)
        render(ring)


def test_only_a_training_thread_that_waits_is_said_to_wait(new_ring):
    """Else the heartbeats of a reader that waits for the ring would hide a step that hangs."""
    ring = new_ring(slots=256, groups=64, max_times_sampled=1)
    twelve_captions(ring)
    reading = Reading(ring, share=0.0, timeout_s=60)
    with reading as batches:
        next(batches), next(batches)
        reading.said.clear()
        time.sleep(0.3)
        assert reading.said == [], "the reader spoke while the training thread did not wait"
        with later(twelve_captions, ring, 12):
            assert next(batches).waited_s > 0.1
        assert "idle" in reading.said and "waiting to draw 6 plain + 0 pair" in reading.said


def test_waiting_is_counted_as_far_as_it_stopped_the_training(new_ring):
    ring = new_ring(slots=256, groups=64, max_times_sampled=1)
    with Reading(ring, share=0.0, timeout_s=60) as batches:
        with later(twelve_captions, ring):
            assert next(batches).waited_s > 0.1
        next(batches)
        with later(twelve_captions, ring, 12):
            wait_for_draws(ring, 3)  # a step in which the reader waits, and stops waiting
        assert next(batches).waited_s < 0.1


def test_closing_ends_a_reader_that_waits(new_ring):
    ring = new_ring(slots=256, groups=64, max_times_sampled=1)
    twelve_captions(ring)
    with Reading(ring, share=0.0, timeout_s=600) as batches:
        next(batches), next(batches)  # there is no third
        assert "prefetch" in [thread.name.partition("_")[0] for thread in threading.enumerate()]
    assert "prefetch" not in [thread.name.partition("_")[0] for thread in threading.enumerate()]
