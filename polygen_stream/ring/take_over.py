"""A ring whose file was there before: what an earlier attempt of the run left in it is used, and never rendered twice.

Every image that the file has a record of is read and compared with its checksum: a process that was killed leaves whole
images or none, a power failure any mixture of old and new pages.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import CHUNK, RingColumns
from polygen_stream.ring.members import end_members
from polygen_stream.ring.pixel_file import PixelFile
from polygen_stream.ring.records import Polarity, SlotState
from polygen_stream.ring.undo_journal import Operation

_THREADS = 4  # that read, for disks that serve several requests at once
_READ_AT_ONCE = 64  # images

Progress = Callable[[int, int], None]


def ignore(done: int, of: int) -> None:
    """Say nothing of progress."""


@dataclass(frozen=True)
class TakenOver:
    """What a ring's file had from an earlier attempt.

    Attributes:
        whole: images that are used, or will be when their captions come again.
        damaged: images that are not those which were stored.
    """

    whole: int
    damaged: int


@dataclass(frozen=True)
class StoredImages:
    """What a file says it has, and whether that is so.

    Attributes:
        records: of every slot, RECORD [slots].
        whole: whether the image of a slot is the one that its record is of, bool [slots].
    """

    records: np.ndarray
    whole: np.ndarray

    @property
    def result(self) -> TakenOver:
        """The numbers of whole and of damaged images."""
        whole = int(np.count_nonzero(self.whole))
        return TakenOver(whole, int(np.count_nonzero(self.records["task_plus_1"])) - whole)


def read_stored(pixels: PixelFile, progress: Progress = ignore) -> StoredImages:
    """Read all images of a file and compare them with their checksums.

    Args:
        pixels: the file.
        progress: called with the images read so far and with all; what it raises ends the reading.
    """
    records = pixels.records()
    stored, whole = np.flatnonzero(records["task_plus_1"]), np.zeros(records.size, bool)

    def is_whole(slots: np.ndarray) -> np.ndarray:
        return checksums(pixels.read(slots)) == records["checksum"][slots]

    with ThreadPoolExecutor(_THREADS, "ring-images") as threads:
        for start in range(0, stored.size, _THREADS * _READ_AT_ONCE):
            progress(start, stored.size)
            part = stored[start : start + _THREADS * _READ_AT_ONCE]
            chunks = [part[at : at + _READ_AT_ONCE] for at in range(0, part.size, _READ_AT_ONCE)]
            for slots, intact in zip(chunks, threads.map(is_whole, chunks), strict=True):
                whole[slots[intact]] = True
    return StoredImages(records, whole)


def images_in_place(stored: StoredImages, c: RingColumns) -> np.ndarray:
    """Return which slots have the whole image of the member that the table has there, bool [slots]."""
    used, records = c.slot_state != SlotState.FREE, stored.records
    negative = c.slot_polarity == Polarity.NEGATIVE
    texts = np.where(negative, c.group_negative_key[c.slot_group], c.group_caption_key[c.slot_group])
    in_place = used & stored.whole & (records["task_plus_1"] == c.group_task[c.slot_group] + 1)
    for name, column in (
        ("text", texts),
        ("member", c.slot_member),
        ("generator", c.slot_generator),
        ("seed", c.slot_seed),
    ):
        in_place &= records[name] == column
    return in_place


def keep_images(control: Control, stored: StoredImages) -> None:
    """Use the whole images: of members that wait for theirs now, of tasks that are still to come when they come."""
    c = control.columns
    there = np.flatnonzero(images_in_place(stored, c) & (c.slot_state == SlotState.WANTED))
    for start in range(0, there.size, CHUNK):
        slots = there[start : start + CHUNK]
        with control.transition(Operation.COMMIT) as journal:
            journal.set("slot_checksum", slots, stored.records["checksum"][slots])
            journal.add("generator_committed", *np.unique(c.slot_generator[slots], return_counts=True))
            end_members(control, journal, slots, SlotState.READY)
    c.slot_kept[:] = stored.whole & (c.slot_state == SlotState.FREE)  # no other process has the ring yet


def take_over(control: Control, progress: Progress = ignore) -> TakenOver:
    """Use what the file of a new ring has from before the first checkpoint of its run; progress as in `read_stored`."""
    assert isinstance(control.pixels, PixelFile), "only a ring with a file has images of an earlier attempt"
    stored = read_stored(control.pixels, progress)
    keep_images(control, stored)
    return stored.result
