"""The most memory that this process has held since it last asked."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start anew (proc(5): 5 in clear_refs resets VmHWM). Where it may not be written, peaks are of the whole life."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


def peak_mib() -> int:
    """Resident memory at its highest since `reset_peak`, MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    assert found is not None, f"{STATUS} has no VmHWM"
    return int(found[1]) // 1024
