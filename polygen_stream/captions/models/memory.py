"""Measures the memory in use, so that a model can report how much its sleep freed."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus


def used_bytes(on_cpu: bool) -> int:
    """Return the memory in use.

    Args:
        on_cpu: True for the resident bytes of this process and its children; False for the bytes in use on the first
            visible GPU, by any process, or 0 if nvidia-smi does not report them.
    """
    return _resident() if on_cpu else _gpu()


def _resident() -> int:
    total, this = 0, psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _gpu() -> int:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    with suppress(NoNvidiaSmi, ValueError):  # a GPU may report "[N/A]"
        [(used,)] = query_gpus("memory.used", gpu=first)
        return int(used) * 2**20
    return 0
