"""Caption texts in the ring's fixed UTF-8 area, and the hashes by which equal captions are recognised.

Texts are the one part of a group that is not journalled: they are written into a free row before it becomes visible.
"""

from __future__ import annotations

import hashlib

import numpy as np

from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.records import GroupState, Polarity


def put_caption(c: RingColumns, group: int, polarity: Polarity, text: bytes) -> None:
    """Write T+ or T- of a FREE row; the caller sets its length column."""
    assert c.group_state[group] == GroupState.FREE
    c.text[group, polarity, : len(text)] = np.frombuffer(text, "u1")


def get_caption(c: RingColumns, group: int, polarity: Polarity) -> bytes:
    """Return T+ or T- of a group that cannot be freed meanwhile."""
    size = c.group_caption_bytes[group] if polarity is Polarity.POSITIVE else c.group_negative_bytes[group]
    return c.text[group, polarity, : int(size)].tobytes()


def text_key(text: bytes) -> int:
    """Return the 64-bit hash of a text, signed as the columns are."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def damaged_texts(c: RingColumns) -> list[int]:
    """Return the groups whose T+ or T- is not the text they were opened with. The caller holds the mutex."""
    return [
        group
        for group in np.flatnonzero(
            (c.group_state == GroupState.OPEN) | (c.group_state == GroupState.COMPLETE)
        ).tolist()
        if text_key(get_caption(c, group, Polarity.POSITIVE)) != c.group_caption_key[group]
        or (
            c.group_negative_bytes[group] >= 0
            and text_key(get_caption(c, group, Polarity.NEGATIVE)) != c.group_negative_key[group]
        )
    ]
