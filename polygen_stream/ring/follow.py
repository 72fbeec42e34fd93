"""Following a ring: every group that becomes complete, once, without delaying any process.

Groups are copied without a lease or a pin, so evictions, draws and openings never wait for a follower. A group of which
an image was overwritten before it was copied, as its checksum shows, was evicted meanwhile and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.drawing import describe
from polygen_stream.ring.pixels import read_intact
from polygen_stream.ring.records import DrawnGroup, GroupState, Kind
from polygen_stream.ring.ring import Ring


@dataclass(frozen=True)
class CompleteGroup:
    """A caption and its images, positives first.

    Attributes:
        task_id: of the group.
        caption: T+.
        negative_caption: T- of a PAIR, else None.
        members: number of each image within its group.
        generators: of each image.
        seeds: of each image.
        negative: whether each image shows T-, bool [n].
        images: uint8 [n, H, W, 3], a copy.
    """

    task_id: int
    caption: str
    negative_caption: str | None
    members: tuple[int, ...]
    generators: tuple[int, ...]
    seeds: tuple[int, ...]
    negative: np.ndarray
    images: np.ndarray


class Follower:
    """Follows one ring; groups that are complete already come first."""

    def __init__(self, ring: Ring) -> None:
        self._control = ring._control
        self._seen = np.full(ring.spec.groups, -1, np.int64)  # generation of each row when it was copied

    def next(self, limit: int) -> list[CompleteGroup] | None:
        """Return up to `limit` new groups in the order in which they were opened; None if there are none.

        Fewer, or [], if some were evicted before they could be copied.
        """
        control, c = self._control, self._control.columns
        with control.reading():
            rows = np.flatnonzero((c.group_state == GroupState.COMPLETE) & (c.group_generation != self._seen))
            rows = rows[np.argsort(c.group_order[rows], kind="stable")][:limit]
            self._seen[rows] = c.group_generation[rows]
            kinds = tuple(Kind(kind) for kind in c.group_kind[rows].tolist())
            groups = describe(control, rows, kinds, c.group_times[rows])
            slots = [np.array((*group.positive_slots, *group.negative_slots), np.int64) for group in groups]
            about = [(c.slot_member[s], c.slot_generator[s], c.slot_seed[s]) for s in slots]
            written = {slot: int(c.slot_checksum[slot]) for s in slots for slot in s.tolist()}
        if not groups:
            return None
        images = [read_intact(control.pixels, s.tolist(), written) for s in slots]
        return [
            _group(group, *columns, np.stack(list(intact.values())))
            for group, s, columns, intact in zip(groups, slots, about, images, strict=True)
            if len(intact) == s.size
        ]


def _group(
    group: DrawnGroup, members: np.ndarray, generators: np.ndarray, seeds: np.ndarray, images: np.ndarray
) -> CompleteGroup:
    return CompleteGroup(
        task_id=group.task_id,
        caption=group.caption,
        negative_caption=group.negative,
        members=tuple(map(int, members)),
        generators=tuple(map(int, generators)),
        seeds=tuple(map(int, seeds.view("u8"))),
        negative=np.arange(len(images)) >= len(group.positive_slots),
        images=images,
    )
