"""The limits on draws and openings. The spec gives their first values; after that they are a column of the ring.

They may change while the ring runs (set_limits.py), so a decision that depends on them reads them under the mutex.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.spec import RingSpec


@dataclass(frozen=True)
class Limits:
    """What bounds draws and openings.

    Attributes:
        samples_per_insert: draws of groups per completed group (0 = no rate limiter), see limiter.py.
        error_buffer: half the width of the rate limiter's window, in draws of groups.
        min_fill: groups that must have been completed before the first draw.
        max_times_sampled: draws after which a group is used up (0 = no limit): no longer drawn, and evicted when a new
            group needs its room.
        max_age: training steps after its opening during which a group is drawn (0 = no limit). Older groups are the
            first to be evicted.
    """

    samples_per_insert: float
    error_buffer: float
    min_fill: int
    max_times_sampled: int
    max_age: int

    @classmethod
    def of(cls, spec: RingSpec) -> Limits:
        """Return the first values, those of the spec."""
        return cls(*(getattr(spec, field.name) for field in fields(cls)))

    @classmethod
    def read(cls, c: RingColumns) -> Limits:
        """Return the values now. The caller holds the mutex."""
        window, buffer, min_fill, most, age = c.limit.view("f8").tolist()
        return cls(window, buffer, int(min_fill), int(most), int(age))

    def cells(self) -> np.ndarray:
        """Return the values as the `limit` column stores them: int64 [5], the bits of float64 (exact up to 2**53)."""
        return np.array([getattr(self, field.name) for field in fields(self)], "f8").view("i8")

    def check(self, groups: int, slots: int) -> None:
        """Refuse limits under which producers and trainer would wait for each other for ever.

        Args:
            groups: group rows of the ring.
            slots: image slots of the ring.

        Raises:
            UserError: which limit, and the arithmetic.
        """
        self._check_ranges(groups, slots)
        if self.samples_per_insert:
            self._check_window()

    def _check_ranges(self, groups: int, slots: int) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < 2**53:  # nan is refused, too
                raise UserError(f"ring.{field.name} is {value}; it must be at least 0 and less than 2**53")
            if field.type == "int" and value != int(value):
                raise UserError(f"ring.{field.name} is {value}; it must be a whole number")
        if self.min_fill < 1:
            raise UserError(f"ring.min_fill is {self.min_fill}; it must be at least 1")
        if self.min_fill > min(groups, slots):
            raise UserError(
                f"ring.min_fill {self.min_fill} can never be reached with {groups} groups and {slots} slots; lower "
                "ring.min_fill or raise ring.slots"
            )

    def _check_window(self) -> None:
        window, narrowest = 2 * self.error_buffer, 2 * max(1.0, self.samples_per_insert)
        if window < narrowest:
            raise UserError(
                f"ring.error_buffer {self.error_buffer} gives a limiter window of {window}, narrower than "
                f"2 x max(1, samples_per_insert) = {narrowest}: both sides would wait for ever; "
                "raise ring.error_buffer"
            )
        if 0 < self.max_times_sampled < self.samples_per_insert:
            raise UserError(
                f"ring.samples_per_insert {self.samples_per_insert:g} can never be reached when no group is drawn more "
                f"than ring.max_times_sampled = {self.max_times_sampled} times: both sides would wait for ever; raise "
                "ring.max_times_sampled or lower ring.samples_per_insert"
            )


def say_left(left: int, complete: int, max_times_sampled: int, max_age: int) -> str:
    """Return for a user that `left` of the `complete` groups may still be drawn, and which limits say so."""
    reuse = {"max_times_sampled": max_times_sampled, "max_age": max_age}
    limits = ", ".join(f"ring.{name} = {value}" for name, value in reuse.items() if value)
    return f"{left} of {complete} complete captions may still be drawn ({limits})"
