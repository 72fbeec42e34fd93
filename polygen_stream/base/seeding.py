"""Counter-based seeds: every random decision is a pure function of named integers and strings.

Nothing here carries state, so a restarted process, another node or a replay gets the same seeds in any order.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(*parts: int | str) -> int:
    """Hash typed parts to an unsigned 64-bit integer.

    Parts are encoded with their type and length, so (1, 23), (12, 3), ("1", 23) and ("12", "3") all differ.
    Built on BLAKE2b: the same on every platform, Python and numpy version.

    Raises:
        TypeError: a part is neither int nor str (bool included: True would silently equal 1).
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | str):
            raise TypeError(f"seed parts are int or str, not {type(part).__name__}: {part!r}")
        body = str(part).encode()
        digest.update(b"%c%d:" % (b"i" if isinstance(part, int) else b"s", len(body)))
        digest.update(body)
    return int.from_bytes(digest.digest(), "little")


def mixed(names: np.ndarray, salt: int) -> np.ndarray:
    """64-bit hashes of many integers under one salt, a `key` (int64 [n] -> uint64 [n]); splitmix64's finalizer."""
    hashes = names.view("u8") + np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def rng(*parts: int | str) -> np.random.Generator:
    """A numpy generator over a Philox stream keyed by `key(*parts)`.

    Philox streams are fixed, but numpy may change between releases how a Generator turns them into, say,
    normals: decisions that must stay exact for ever (the ledger) use `key` directly.
    """
    return np.random.Generator(np.random.Philox(key=key(*parts)))
