"""How many captions of each sort a pool has: as many of every axis, as far as there are meanings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from polygen_stream.base.errors import UserError

EXHAUSTED_AFTER = 256  # captions of a sort in a row that say nothing new


class Sort(NamedTuple):
    """A sort of caption: its axis, and whether it describes a whole scene."""

    axis: str
    whole_scene: bool


class Quotas:
    """The captions of each sort that a pool still lacks.

    Args:
        captions: of the pool.
        scene_share: share of them that describe whole scenes.
        axes: of the source; an axis that is listed twice counts once.
    """

    def __init__(self, captions: int, scene_share: float, axes: Sequence[str]) -> None:
        self._captions = captions
        self._left: dict[Sort, int] = {}
        self._nothing_new: Counter[Sort] = Counter()
        whole = round(scene_share * captions)
        for whole_scene, count in ((True, whole), (False, captions - whole)):
            sorts = [Sort(axis, whole_scene) for axis in sorted(set(axes))]
            self._left |= dict.fromkeys(sorts, 0)
            self._add(count, sorts)

    def left(self, sort: Sort) -> int:
        """Return how many captions of a sort are lacking."""
        return self._left.get(sort, 0)

    def note(self, sort: Sort, is_new: bool) -> None:
        """Count a caption of a sort of which some are lacking.

        Args:
            sort: of the caption.
            is_new: whether the pool takes it. If EXHAUSTED_AFTER of the sort in a row are not, it is exhausted.

        Raises:
            UserError: all sorts that describe whole scenes are exhausted, or all that do not.
        """
        self._nothing_new[sort] = 0 if is_new else self._nothing_new[sort] + 1
        self._left[sort] -= is_new
        if self._nothing_new[sort] >= EXHAUSTED_AFTER:
            lacking = self._left.pop(sort)
            others = [other for other in self._left if other.whole_scene == sort.whole_scene]
            if not others:
                kind = "whole scenes" if sort.whole_scene else "one thing or two"
                raise UserError(
                    f"the source has no more captions of {kind}: the last {EXHAUSTED_AFTER} for the axis {sort.axis}"
                    f" were dropped or say nothing new, and {lacking:,} more are wanted for a pool of"
                    f" {self._captions:,}: lower pool.captions"
                )
            self._add(lacking, others)

    def _add(self, count: int, sorts: Sequence[Sort]) -> None:
        for number, sort in enumerate(sorts):
            self._left[sort] += count // len(sorts) + (number < count % len(sorts))
