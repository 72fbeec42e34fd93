"""Memory in use, to say how much of it was given back."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import psutil


def used_bytes(on_cpu: bool) -> int:
    """On a CPU: resident bytes of this process and those it started; on a GPU: what is in use there, by anybody."""
    return _resident() if on_cpu else _gpu()


def _resident() -> int:
    total, this = 0, psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _gpu() -> int:
    """Bytes in use on the first GPU that this process may see; 0 where nobody says."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    query = ["nvidia-smi", f"--id={first}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):  # no nvidia-smi, or a GPU that says "[N/A]"
        return int(subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout) * 2**20
    return 0
