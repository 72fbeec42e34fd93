"""The baselines by name."""

from __future__ import annotations

from polygen_stream.bench.harness.baseline import BaselineEntry

OURS, TIMED, LIMIT, QUEUE, REVERB = "ring", "ring, timed", "memcpy", "multiprocessing.Queue", "dm-reverb"


def _entry(name: str, module: str, cls: str, package: str | None = None, note: str = "") -> BaselineEntry:
    return BaselineEntry(name, f"{__package__}.{module}:{cls}", package, note)


BASELINES = {
    entry.name: entry
    for entry in (
        _entry(OURS, "ring", "RingBaseline"),
        _entry(TIMED, "ring", "TimedRingBaseline"),
        _entry(LIMIT, "memcpy", "MemcpyBaseline", note="one process, no bookkeeping"),
        _entry(QUEUE, "multiprocessing_queue", "QueueBaseline", note="first in, first out"),
        _entry("shared_memory + Lock", "locked_memory", "LockedMemoryBaseline", note="copies under the lock"),
        _entry("torch.multiprocessing", "torch_queue", "TorchQueueBaseline", "torch", "first in, first out"),
        _entry(
            "torch slots", "torch_slots", "TorchSlotsBaseline", "torch",
            "slot numbers through queues, first in, first out",
        ),
        _entry(
            "DataLoader", "data_loader", "DataLoaderBaseline", "torch",
            "half of the array is written while the other is read",
        ),
        _entry("ray", "ray_store", "RayBaseline", "ray", "first come, first served"),
        _entry("iceoryx2", "iceoryx", "IceoryxBaseline", "iceoryx2", "first in, first out"),
        _entry(REVERB, "reverb_table", "ReverbBaseline", "reverb"),
    )
}  # fmt: skip
# The ring and its limit are measured in any case, these with --baselines.
ALTERNATIVES = tuple(name for name in BASELINES if name not in (OURS, TIMED, LIMIT))
