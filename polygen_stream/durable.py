"""What has to be on disk before somebody relies on it."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Makes a file's content, or a folder's entries, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
