"""Following a ring: every group that gets complete, once, without ever holding anything back.

Whoever follows is no reader that the ring knows of: groups are copied as they stand, not leased and not held, so
evictions, draws and openings never wait. A slot is written only after a claim, and each claim raises its generation; a
group whose slots have other generations after the copy was evicted meanwhile, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.drawing import describe
from polygen_stream.ring.records import DrawnGroup, GroupState, Kind
from polygen_stream.ring.ring import Ring


@dataclass(frozen=True)
class CompleteGroup:
    """A caption and its pictures, positives first. members, generators and seeds: one of each per picture.

    images: uint8 [n, H, W, 3], a copy. negative: bool [n], whether a picture shows the hard negative.
    """

    task_id: int
    caption: str
    negative_caption: str | None
    members: tuple[int, ...]  # number of the picture within its group
    generators: tuple[int, ...]
    seeds: tuple[int, ...]
    negative: np.ndarray
    images: np.ndarray


class Follower:
    """Of one ring, from now on: what is complete already comes first."""

    def __init__(self, ring: Ring) -> None:
        self._control = ring._control
        self._seen = np.full(ring.spec.groups, -1, np.int64)  # generation of each row when it was dealt with

    def next(self, limit: int) -> list[CompleteGroup] | None:
        """Up to `limit` groups that are new, in the order in which they were opened; None when there are none.

        Fewer, or [], when some were evicted before they could be copied.
        """
        control, c = self._control, self._control.columns
        with control.reading():
            rows = np.flatnonzero((c.group_state == GroupState.COMPLETE) & (c.group_generation != self._seen))
            rows = rows[np.argsort(c.group_order[rows], kind="stable")][:limit]
            self._seen[rows] = c.group_generation[rows]
            kinds = tuple(Kind(kind) for kind in c.group_kind[rows].tolist())
            groups = describe(control, rows, kinds, c.group_times[rows])
            slots = [np.array((*group.positive_slots, *group.negative_slots), np.int64) for group in groups]
            about = [(c.slot_generation[s], c.slot_member[s], c.slot_generator[s], c.slot_seed[s]) for s in slots]
        if not groups:
            return None
        images = [c.payload[s] for s in slots]
        with control.reading():
            intact = [np.array_equal(c.slot_generation[s], then) for s, (then, *_) in zip(slots, about, strict=True)]
        return [
            _group(group, *columns, pictures)
            for group, (_, *columns), pictures, whole in zip(groups, about, images, intact, strict=True)
            if whole
        ]


def _group(
    group: DrawnGroup, members: Sequence[int], generators: Sequence[int], seeds: np.ndarray, images: np.ndarray
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
