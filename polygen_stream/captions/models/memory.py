"""Measures the memory in use, so that a model can report how much its sleep freed."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import psutil


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
    query = ["nvidia-smi", f"--id={first}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):  # no nvidia-smi, or a GPU that reports "[N/A]"
        return int(subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout) * 2**20
    return 0
