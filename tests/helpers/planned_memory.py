"""What polygen_stream.capacity plans for a process of a run."""

from __future__ import annotations

from itertools import chain

from polygen_stream.capacity.gpus import parse_gpus
from polygen_stream.capacity.memory import gpu_needs
from polygen_stream.config import RunConfig
from polygen_stream.launch.process_plan import build_process_plan


def planned_gib(config: RunConfig, role: str, generator: str | None = None) -> tuple[float, float]:
    """Return the GiB of its GPU that the plan gives to a process: allocated, and reserved by torch's allocator.

    Without the CUDA context and NCCL's buffers, which neither of the two counts.
    """
    needs = gpu_needs(config, build_process_plan(config, there=False), parse_gpus("8xA100-80G"))
    need = next(n for n in chain(*needs.values()) if (n.process.role, n.process.generator) == (role, generator))
    items = {item.what: item.gib for item in need.items if item.what not in ("CUDA context", "NCCL")}
    reserved = sum(items.values())
    return reserved - items.get("allocator", 0.0), reserved
