"""The ring itself. Producers open the captions, claim and commit their pictures; every picture is drawn once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from polygen_stream.bench.baselines.timed_control import TimedControl
from polygen_stream.bench.harness.producers import Inherited, Producers
from polygen_stream.bench.harness.workload import CAPTION_BYTES, Work, WorkBatch, WorkPictures, caption_of
from polygen_stream.ring import DrawRequest, GroupRequest, Kind, Member, Ring, RingSpec
from polygen_stream.ring.undo_journal import Operation

PATIENCE_S = 120.0


def ring_spec(work: Work) -> RingSpec:
    """One generator, so that a claim takes whole captions; a caption drawn once may be evicted."""
    groups = work.slots // work.per_caption
    return RingSpec(
        slots=work.slots,
        image_shape=work.shape,
        groups=groups,
        members=work.per_caption,
        caption_bytes=CAPTION_BYTES,
        generators=("renderer",),
        seed=0,
        max_times_sampled=1,
        max_open=groups,
    )


class RingBaseline:
    """The ring, with one generator whose images are each drawn once."""

    timed = False  # whether waits for the mutex are recorded too

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ring = Ring.create(ring_spec(work))
        self._ring.register("trainer", "consumer")
        context = multiprocessing.get_context("spawn")
        self._producers = Producers(context, work, _RingWriter, Inherited(self._ring.fd), self.timed)
        self._out = np.empty((work.read, *work.shape), np.uint8)
        self._step = 0
        self._rest: Iterator[WorkBatch] = iter(())
        _touch(self._ring, self._out)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        batch = next(self._rest, None)
        if batch is None:
            self._rest = self._draw()
            batch = next(self._rest)
        return batch

    def _draw(self) -> Iterator[WorkBatch]:
        """One draw of work.batch images, work.read of them at a time."""
        work = self._work
        draw = self._ring.draw(DrawRequest(self._step, work.batch // work.per_caption, 0), PATIENCE_S)
        self._step += 1
        at_once = work.read // work.per_caption
        for start in range(0, len(draw.groups), at_once):
            groups = draw.groups[start : start + at_once]
            self._ring.read([slot for group in groups for slot in group.positive_slots], self._out)
            if start + at_once == len(draw.groups):
                self._ring.release(draw)
            tasks = np.array([group.task_id for group in groups])
            samples = tasks[:, None] * work.per_caption + np.arange(work.per_caption)  # slots are in order of members
            captions = [group.caption for group in groups for _ in group.positive_slots]
            yield WorkBatch(samples.reshape(-1), captions, self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        reports = self._producers.finish()
        return {name: np.concatenate([report[name] for report in reports]).tolist() for name in reports[0]}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._ring.close()


def _touch(ring: Ring, out: np.ndarray) -> None:
    """As work.touch, through the ring's own interface."""
    for start in range(0, ring.spec.slots, len(out)):
        slots = np.arange(start, min(start + len(out), ring.spec.slots))
        ring.read(slots, out[: len(slots)])


class TimedRingBaseline(RingBaseline):
    """The ring, with the waits for its mutex recorded."""

    timed = True


class _RingWriter:
    def __init__(self, work: Work, pictures: WorkPictures, fd: int, timed: bool) -> None:
        self._work = work
        self._pictures = pictures
        self._control = TimedControl(fd, PATIENCE_S) if timed else None
        self._ring = Ring(self._control) if self._control else Ring.attach(fd)
        self._ring.register("renderer", f"producer {multiprocessing.current_process().name}")
        _touch(self._ring, np.empty((work.handed, *work.shape), np.uint8))
        self._members = [Member(0, 0, seed) for seed in range(work.per_caption)]
        self._commits: list[float] = []

    def write(self, samples: np.ndarray) -> None:
        """Opens the captions of `samples`; claims and commits as many members, its own or another producer's."""
        work, ring = self._work, self._ring
        tasks = (samples[:: work.per_caption] // work.per_caption).tolist()
        requests = [GroupRequest(task, Kind.PLAIN, caption_of(task), None, self._members) for task in tasks]
        ring.open_groups(requests, PATIENCE_S)
        claims = ring.claim([0], len(samples))
        images = self._pictures.make(np.array([claim.task_id * work.per_caption + claim.member for claim in claims]))
        began = time.perf_counter()
        accepted = ring.commit(claims, images)
        self._commits.append(time.perf_counter() - began)
        assert len(claims) == len(samples) and all(accepted)

    def report(self) -> dict[str, Any]:
        report = {"commit_s": self._commits}
        self._commits = []
        if self._control:
            report["commit_wait_s"] = self._control.take(Operation.COMMIT).waited_s
        return report
