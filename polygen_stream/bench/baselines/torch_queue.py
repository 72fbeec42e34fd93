"""torch.multiprocessing as its manual shows it: tensors through a queue, which moves them to shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures


class TorchQueueBaseline:
    """A torch.multiprocessing queue of tensors."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(1)
        self._work = work
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(work.slots // work.handed)
        self._producers = Producers(context, work, _TorchQueueWriter, self._queue)
        self._out = torch.empty((work.read, *work.shape), dtype=torch.uint8)

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
        return WorkBatch(np.concatenate(samples), captions, self._out.numpy())

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._queue.close()


class _TorchQueueWriter:
    def __init__(self, work: Work, pictures: WorkPictures, queue: Any) -> None:
        torch.set_num_threads(1)
        self._work = work
        self._pictures = pictures
        self._queue = queue

    def write(self, samples: np.ndarray) -> None:
        images = torch.from_numpy(self._pictures.make(samples)).share_memory_()  # the copy into shared memory
        self._queue.put((samples, self._work.captions(samples), images))

    def report(self) -> dict[str, Any]:
        return {}
