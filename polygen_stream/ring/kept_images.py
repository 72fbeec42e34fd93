"""Slots for the members of new groups, where an earlier attempt of the run may have left their images.

A resumed run has the table of its checkpoint, and its journal opens again what was opened later. Whole images of such
tasks stay in their slots, which are FREE and kept (take_over.py). A member gets the kept slot with its image, if task,
text, number, generator and seed agree; other members get kept slots last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.pixel_file import RECORD, PixelFile
from polygen_stream.ring.records import SlotState

_COMPARED = ("text", "seed", "member", "generator")


@dataclass(frozen=True)
class ChosenSlots:
    """Slots of the members of new groups.

    Attributes:
        slots: int64 [n].
        has_image: whether each has the image of its member already, bool [n].
        checksums: of those images, int64 [n]; of others without meaning.
    """

    slots: np.ndarray
    has_image: np.ndarray
    checksums: np.ndarray


class KeptImages:
    """The images that were kept when this process looked first: afterwards they only get fewer.

    Args:
        pixels: of the ring.
        columns: of the ring. The caller holds the mutex.
    """

    def __init__(self, pixels: PixelFile, columns: RingColumns) -> None:
        kept = np.flatnonzero(columns.slot_kept)
        records = pixels.records()[kept] if kept.size else np.empty(0, RECORD)
        order = np.argsort(records["task_plus_1"], kind="stable")
        self._slots, self._records = kept[order], records[order]

    def choose(self, c: RingColumns, wanted: np.ndarray) -> ChosenSlots:
        """Choose a FREE slot for each member. The caller holds the mutex, and there are enough.

        Args:
            c: the columns of the ring.
            wanted: what the members are, RECORD [n]; the checksums are not looked at.
        """
        slots, sums = np.full(wanted.size, -1, np.int64), np.zeros(wanted.size, np.int64)
        tasks = self._records["task_plus_1"]
        first, last = (np.searchsorted(tasks, wanted["task_plus_1"], side) for side in ("left", "right"))
        for place in np.flatnonzero(first < last).tolist():
            for number in range(int(first[place]), int(last[place])):
                record, slot = self._records[number], int(self._slots[number])
                if c.slot_kept[slot] and all(record[name] == wanted[place][name] for name in _COMPARED):
                    slots[place], sums[place] = slot, record["checksum"]
        has_image = slots >= 0
        slots[~has_image] = _free_slots(c, int(np.count_nonzero(~has_image)), but=slots[has_image])
        return ChosenSlots(slots, has_image, sums)


def _free_slots(c: RingColumns, count: int, but: np.ndarray) -> np.ndarray:
    free = np.flatnonzero((c.slot_state == SlotState.FREE) & (c.slot_kept == 0))[:count]
    if free.size < count:
        kept = np.flatnonzero(c.slot_kept)  # they are FREE
        free = np.concatenate([free, kept[~np.isin(kept, but)][: count - free.size]])
    return free


def first_free(c: RingColumns, count: int) -> ChosenSlots:
    """Choose FREE slots of a ring without kept images."""
    slots = np.flatnonzero(c.slot_state == SlotState.FREE)[:count]
    return ChosenSlots(slots, np.zeros(count, bool), np.zeros(count, np.int64))
