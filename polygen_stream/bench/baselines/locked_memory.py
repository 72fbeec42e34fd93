"""multiprocessing.shared_memory with one Lock around everything, copies included: the simplest design."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import CAPTION_BYTES, Work, WorkBatch, WorkPictures, touch

PAUSE_S = 0.5e-3
FREE = -1


class LockedMemoryBaseline:
    """One block of shared memory under one lock."""

    def __init__(self, work: Work) -> None:
        self._work = work
        context = multiprocessing.get_context("spawn")
        self._memory = SharedMemory(create=True, size=work.slots * (8 + CAPTION_BYTES + work.image_bytes))
        self._columns = _Columns(work, self._memory)
        self._columns.sample[:] = FREE
        touch(self._columns.image)
        self._lock = context.Lock()
        self._producers = Producers(context, work, _LockedMemoryWriter, self._memory.name, self._lock)
        self._out = np.empty((work.read, *work.shape), np.uint8)
        self._random = np.random.default_rng(0)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        count, columns = self._work.read, self._columns
        while True:
            with self._lock:
                full = np.flatnonzero(columns.sample != FREE)
                if full.size >= count:
                    slots = self._random.choice(full, count, replace=False)
                    np.take(columns.image, slots, axis=0, out=self._out, mode="clip")
                    samples = columns.sample[slots]
                    captions = [bytes(text).rstrip(b"\0").decode() for text in columns.caption[slots]]
                    columns.sample[slots] = FREE
                    return WorkBatch(samples, captions, self._out)
            time.sleep(PAUSE_S)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        del self._columns
        self._memory.close()
        self._memory.unlink()


class _Columns:
    def __init__(self, work: Work, memory: SharedMemory) -> None:
        buffer = memory.buf
        assert buffer is not None, "the memory is open"
        self.sample = np.frombuffer(buffer, np.int64, work.slots)
        self.caption = np.frombuffer(buffer, np.uint8, work.slots * CAPTION_BYTES, self.sample.nbytes)
        self.caption = self.caption.reshape(work.slots, CAPTION_BYTES)
        start = self.sample.nbytes + self.caption.nbytes
        self.image = np.frombuffer(buffer, np.uint8, work.slots * work.image_bytes, start)
        self.image = self.image.reshape(work.slots, *work.shape)


class _LockedMemoryWriter:
    def __init__(self, work: Work, pictures: WorkPictures, name: str, lock: Any) -> None:
        self._work = work
        self._pictures = pictures
        self._lock = lock
        self._memory = SharedMemory(name)
        self._columns = _Columns(work, self._memory)
        touch(self._columns.image)

    def write(self, samples: np.ndarray) -> None:
        images, columns = self._pictures.make(samples), self._columns
        captions = [text.encode().ljust(CAPTION_BYTES, b"\0") for text in self._work.captions(samples)]
        while True:
            with self._lock:
                free = np.flatnonzero(columns.sample == FREE)[: len(samples)]
                if free.size == len(samples):
                    columns.image[free] = images
                    columns.caption[free] = np.frombuffer(b"".join(captions), np.uint8).reshape(-1, CAPTION_BYTES)
                    columns.sample[free] = samples
                    return
            time.sleep(PAUSE_S)

    def report(self) -> dict[str, Any]:
        return {}
