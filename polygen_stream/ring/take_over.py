"""A ring whose file was there before: what an earlier attempt of the run left in it is used, and never rendered twice.

Every image that the file has a record of is read and compared with its checksum: a process that was killed leaves whole
images or none, a power failure any mixture of old and new pages.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import CHUNK, RingColumns
from polygen_stream.ring.members import end_members
from polygen_stream.ring.pixel_file import PixelFile
from polygen_stream.ring.records import SlotState
from polygen_stream.ring.undo_journal import Operation

_THREADS = 4  # that read, for disks that serve several requests at once
_READ_AT_ONCE = 64  # images


@dataclass(frozen=True)
class TakenOver:
    """What a ring's file had from an earlier attempt.

    Attributes:
        whole: images that are used, or will be when their captions come again.
        damaged: images that are not those which were stored.
    """

    whole: int
    damaged: int


def whole_images(pixels: PixelFile) -> tuple[np.ndarray, int]:
    """Read all images that were stored.

    Returns:
        Whether each slot has a whole one, bool [slots], and the number of damaged ones.
    """
    stored = np.flatnonzero(pixels.records["task_plus_1"])
    chunks = [stored[start : start + _READ_AT_ONCE] for start in range(0, stored.size, _READ_AT_ONCE)]

    def is_whole(slots: np.ndarray) -> np.ndarray:
        return checksums(pixels.read(slots)) == pixels.records["checksum"][slots]

    whole = np.zeros(pixels.records.size, bool)
    with ThreadPoolExecutor(_THREADS, "ring-images") as threads:
        for slots, intact in zip(chunks, threads.map(is_whole, chunks), strict=True):
            whole[slots[intact]] = True
    return whole, stored.size - int(np.count_nonzero(whole))


def images_in_place(pixels: PixelFile, c: RingColumns, whole: np.ndarray) -> np.ndarray:
    """Return which slots have the whole image of the member that the table has there, bool [slots]."""
    used, records = c.slot_state != SlotState.FREE, pixels.records
    tasks = np.where(used, c.group_task[c.slot_group], -1)
    in_place = used & whole & (records["task_plus_1"] == tasks + 1)
    for name, column in (("member", c.slot_member), ("generator", c.slot_generator), ("seed", c.slot_seed)):
        in_place &= records[name] == column
    return in_place


def keep_images(control: Control, whole: np.ndarray) -> None:
    """Use the whole images: of members that wait for theirs now, of tasks that are still to come when they come."""
    c, pixels = control.columns, control.pixels
    assert isinstance(pixels, PixelFile), "only a ring with a file has images of an earlier attempt"
    there = np.flatnonzero(images_in_place(pixels, c, whole) & (c.slot_state == SlotState.WANTED))
    for start in range(0, there.size, CHUNK):
        slots = there[start : start + CHUNK]
        with control.transition(Operation.COMMIT) as journal:
            journal.set("slot_checksum", slots, pixels.records["checksum"][slots])
            journal.add("generator_committed", *np.unique(c.slot_generator[slots], return_counts=True))
            end_members(control, journal, slots, SlotState.READY)
    c.slot_kept[:] = whole & (c.slot_state == SlotState.FREE)  # no other process has the ring yet


def take_over(control: Control) -> TakenOver:
    """Use what the file of a new ring has from before the first checkpoint of its run."""
    assert isinstance(control.pixels, PixelFile), "only a ring with a file has images of an earlier attempt"
    whole, damaged = whole_images(control.pixels)
    keep_images(control, whole)
    return TakenOver(int(np.count_nonzero(whole)), damaged)
