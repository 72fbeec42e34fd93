"""Slots for the members of new groups, where an earlier attempt of the run may have left their images.

A resumed run has the table of its checkpoint, and its journal opens again what was opened later. Whole images of such
tasks stay in their slots, which are FREE and kept (take_over.py). A member gets the kept slot with its image, if the
task, its number, its generator and its seed agree; other members get kept slots last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.pixel_file import PixelFile
from polygen_stream.ring.records import Member, SlotState


def choose_slots(
    control: Control, tasks: np.ndarray, numbers: np.ndarray, members: Sequence[Member]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a FREE slot for each member. The caller holds the mutex, and there are enough.

    Args:
        control: the ring.
        tasks: id of each member's task, int64 [n].
        numbers: of each member within its group, int64 [n].
        members: what they are.

    Returns:
        Slots, int64 [n], and whether each has the image of its member already, bool [n].
    """
    c, pixels = control.columns, control.pixels
    free = np.flatnonzero(c.slot_state == SlotState.FREE)
    if not isinstance(pixels, PixelFile) or not c.slot_kept.any():
        return free[: len(members)], np.zeros(len(members), bool)
    kept = np.flatnonzero(c.slot_kept)
    kept = kept[np.isin(pixels.records["task_plus_1"][kept], tasks + 1)]
    records = pixels.records[kept].tolist()
    there = {
        (task - 1, number, generator, seed): slot
        for slot, (task, seed, _, number, generator) in zip(kept.tolist(), records, strict=True)
    }
    wanted = zip(tasks.tolist(), numbers.tolist(), members, strict=True)
    found = [there.get((task, number, member.generator, _signed(member.seed)), -1) for task, number, member in wanted]
    slots = np.array(found, np.int64)
    has_image = slots >= 0
    others = np.setdiff1d(free, slots[has_image], assume_unique=True)
    others = others[np.argsort(c.slot_kept[others], kind="stable")]
    slots[~has_image] = others[: np.count_nonzero(~has_image)]
    return slots, has_image


def _signed(seed: int) -> int:
    """Return an unsigned 64-bit seed as the ring stores it."""
    return seed - 2**64 if seed >= 2**63 else seed
