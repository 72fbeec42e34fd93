"""Disks: what has to be there before somebody relies on it, and where something would go."""

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


def there_of(path: Path) -> Path:
    """What exists of a path: itself, or the nearest folder above it, whose disk it would be on."""
    return next(each for each in (path, *path.parents) if each.exists())
