"""Whether the NVIDIA driver is new enough for the installed build of torch. Neither torch nor a GPU is started."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

# Oldest driver that runs any release of a major version of CUDA ("CUDA Compatibility", minor version compatibility,
# docs.nvidia.com/deploy/cuda-compatibility).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


def torch_cuda_version() -> str | None:
    """Return the version of CUDA that the installed torch was built for, e.g. "13.0"; None: for CPUs, or no torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    found = re.search(r"^cuda\b.*= '([\d.]+)'", version.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def too_old(driver: str, cuda: str) -> int | None:
    """Return the oldest driver that is new enough for a version of CUDA; None: the installed one is, or it is unknown.

    An older one is as good as a newer one with the forward compatibility package, which containers bring along: then
    the library that programs load says so.

    Args:
        driver: e.g. "570.86.15".
        cuda: e.g. "13.0".
    """
    major = int(cuda.partition(".")[0])
    oldest = OLDEST_DRIVER.get(major)
    number = driver.partition(".")[0]
    if oldest is None or not number.isdecimal() or int(number) >= oldest or _loadable_cuda() >= major:
        return None
    return oldest


def _loadable_cuda() -> int:
    """Return the major version of CUDA that the driver's library on the library path runs; 0: there is none."""
    try:
        version = ctypes.c_int(0)
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else version.value // 1000
