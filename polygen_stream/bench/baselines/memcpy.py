"""The limit: the same two copies, into a slot and out of it, by one process without bookkeeping."""

from __future__ import annotations

from typing import Any

import numpy as np

from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures, touch
from polygen_stream.ring import memory
from polygen_stream.ring.layout import PAYLOAD_SHIFT

MAX_SLOTS = 4096


class MemcpyBaseline:
    """Copies into slots and out of them, in one process."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pictures = WorkPictures(work)
        # the ring's kind of memory and, up to what no cache holds anyway, as much of it
        count = min(work.slots, MAX_SLOTS)
        size = count * work.image_bytes
        mapped = memory.map_all(memory.allocate(PAYLOAD_SHIFT + size))
        self._slots = np.frombuffer(mapped, np.uint8, size, PAYLOAD_SHIFT).reshape(count, *work.shape)
        touch(self._slots)
        self._out = np.empty((work.read, *work.shape), np.uint8)
        self._order = np.random.default_rng(0)
        self._free = 0

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._next = first

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples = np.arange(self._next, self._next + work.read)
        self._next += work.read
        slots = (self._free + np.arange(work.read)) % len(self._slots)
        self._free = (self._free + work.read) % len(self._slots)
        for start in range(0, work.read, work.handed):
            images = self._pictures.make(samples[start : start + work.handed])
            for slot, image in zip(slots[start : start + work.handed].tolist(), images, strict=True):
                self._slots[slot] = image
        order = self._order.permutation(work.read)
        np.take(self._slots, slots[order], axis=0, out=self._out, mode="clip")
        return WorkBatch(samples[order], work.captions(samples[order]), self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        return {}

    def close(self) -> None:
        """Its memory goes with the process."""
