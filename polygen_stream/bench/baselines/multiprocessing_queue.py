"""multiprocessing.Queue: arrays are pickled through a pipe."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures


class QueueBaseline:
    """A multiprocessing.Queue of arrays."""

    def __init__(self, work: Work) -> None:
        self._work = work
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(work.slots // work.handed)
        self._producers = Producers(context, work, _QueueWriter, self._queue)
        self._out = np.empty((work.read, *work.shape), np.uint8)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples, captions = [], []
        for start in range(0, work.read, work.handed):
            numbers, texts, images = self._queue.get()
            samples.append(numbers)
            captions += texts
            self._out[start : start + work.handed] = images
        return WorkBatch(np.concatenate(samples), captions, self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._queue.close()


class _QueueWriter:
    def __init__(self, work: Work, pictures: WorkPictures, queue: multiprocessing.Queue) -> None:
        self._work = work
        self._pictures = pictures
        self._queue = queue

    def write(self, samples: np.ndarray) -> None:
        # a copy, because the queue pickles later, in a thread, and the renderer reuses its buffer
        self._queue.put((samples, self._work.captions(samples), self._pictures.make(samples).copy()))

    def report(self) -> dict[str, Any]:
        return {}
