"""Ways to carry samples from producers to one consumer: the ring, the limit, and what people use instead.

Each lives in a file of its own, runs in a process of its own (host.py), and does the same work (work.py).
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Protocol

from polygen_stream.bench.harness.workload import Work, WorkBatch


class Baseline(Protocol):
    """One way, from the consumer's side. Constructing it allocates everything and starts the producers."""

    def __init__(self, work: Work) -> None: ...

    def begin(self, first: int) -> None:
        """Lets the producers write samples first .. first + work.images - 1; returns at once."""
        ...

    def draw(self) -> WorkBatch:
        """Waits for the next work.read samples, in any order, and copies them into one array."""
        ...

    def finish(self) -> dict[str, Any]:
        """After the last batch of a round: waits for the producers; what they measured themselves."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class BaselineEntry:
    """Where a peer is, which package it needs beside ours, and what it does not do that the ring does."""

    module: str
    cls: str
    needs: str | None = None
    note: str = ""

    def load(self) -> type[Baseline]:
        return getattr(importlib.import_module(f"polygen_stream.bench.baselines.{self.module}"), self.cls)

    @property
    def installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


OURS, TIMED, LIMIT, QUEUE, REVERB = "ring", "ring, timed", "memcpy", "multiprocessing.Queue", "dm-reverb"

BASELINES = {
    OURS: BaselineEntry("ring", "RingBaseline"),
    TIMED: BaselineEntry("ring", "TimedRingBaseline"),
    LIMIT: BaselineEntry("memcpy", "MemcpyBaseline", note="one process, no bookkeeping"),
    QUEUE: BaselineEntry("multiprocessing_queue", "QueueBaseline", note="first in, first out"),
    "shared_memory + Lock": BaselineEntry("locked_memory", "NaiveBaseline", note="copies under the lock"),
    "torch.multiprocessing": BaselineEntry("torch_queue", "TorchQueueBaseline", "torch", "first in, first out"),
    "torch slots": BaselineEntry(
        "torch_slots", "TorchSlotsBaseline", "torch", "slot numbers through queues, first in, first out"
    ),
    "DataLoader": BaselineEntry(
        "data_loader", "LoaderBaseline", "torch", "half of the array is written while the other is read"
    ),
    "ray": BaselineEntry("ray_store", "RayBaseline", "ray", "first come, first served"),
    "iceoryx2": BaselineEntry("iceoryx", "IceoryxBaseline", "iceoryx2", "first in, first out"),
    REVERB: BaselineEntry("reverb_table", "ReverbBaseline", "reverb"),
}
# What people would use instead; the ring and the limit are measured in any case.
OTHERS = tuple(name for name in BASELINES if name not in (OURS, TIMED, LIMIT))
