"""One shared tensor of slots made beforehand; only slot numbers travel, through two torch.multiprocessing queues.

The fastest thing that is easy to write. A process that dies takes the slots it holds with it, or a queue's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures, touch


class TorchSlotsBaseline:
    """Slots of one shared tensor, passed by number through two queues."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(1)
        self._work = work
        context = multiprocessing.get_context("spawn")
        runs = work.slots // work.handed  # slots are handed over in runs of `handed`
        self._slots = torch.zeros((runs, work.handed, *work.shape), dtype=torch.uint8).share_memory_()
        self._free, self._full = context.Queue(), context.Queue()
        for run in range(runs):
            self._free.put(run)
        self._producers = Producers(context, work, _TorchSlotsWriter, self._slots, self._free, self._full)
        self._out = torch.empty((work.read // work.handed, work.handed, *work.shape), dtype=torch.uint8)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples, captions = [], []
        for place in range(work.read // work.handed):
            run, numbers, texts = self._full.get()
            samples.append(numbers)
            captions += texts
            self._out[place] = self._slots[run]
            self._free.put(run)
        return WorkBatch(np.concatenate(samples), captions, self._out.numpy().reshape(work.read, *work.shape))

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._free.close()
        self._full.close()


class _TorchSlotsWriter:
    def __init__(self, work: Work, pictures: WorkPictures, slots: torch.Tensor, free: Any, full: Any) -> None:
        torch.set_num_threads(1)
        self._work = work
        self._pictures = pictures
        touch(slots.numpy())
        self._slots, self._free, self._full = slots, free, full

    def write(self, samples: np.ndarray) -> None:
        run = self._free.get()
        self._slots[run] = torch.from_numpy(self._pictures.make(samples))
        self._full.put((run, samples, self._work.captions(samples)))

    def report(self) -> dict[str, Any]:
        return {}
