"""The rate limiter: Reverb's samples-per-insert window over group draws and completed groups.

    difference = inserts x samples_per_insert - samples + offset
    centre     = samples_per_insert x min_fill
    centre - error_buffer <= difference <= centre + error_buffer

Sampling may not push the difference below the window, opening may not push it above. Openings count from
the moment they are admitted: every open group is an insert to come, and back-pressure acts only there. As many as the
renderers work on at once (RingSpec.in_flight) do not count: a window that is narrower than these bring would let the
renderers idle while the trainer waits for them, as on one of many nodes, whose window is its share of the run's. With
samples_per_insert = 0 only min_fill applies. Once production has finished the window no longer binds the
sampling side, which could only wait for ever; max_times_sampled still bounds reuse. (Cassirer et al. 2021,
Reverb, section 3.4.)

The offset is 0 until the ratio changes while the ring runs: what was inserted and drawn under the old ratio must not be
counted by the new one, or one side would have to make up for the whole past.
"""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.ring.layout import RingColumns
from polygen_stream.ring.limits import Limits


@dataclass(frozen=True)
class RateLimiter:
    """Pure arithmetic on the counters that the caller read under the mutex.

    Attributes:
        samples_per_insert: draws of groups per completed group, 0 = off.
        min_fill: groups that must have been completed before the first draw.
        error_buffer: half the width of the window, in draws of groups.
        offset: see above.
    """

    samples_per_insert: float
    min_fill: int
    error_buffer: float
    offset: float = 0.0

    @classmethod
    def of(cls, limits: Limits, offset: float = 0.0) -> RateLimiter:
        """Return the limiter under these limits."""
        return cls(limits.samples_per_insert, limits.min_fill, limits.error_buffer, offset)

    @classmethod
    def read(cls, c: RingColumns) -> RateLimiter:
        """Return the limiter now. The caller holds the mutex."""
        return cls.of(Limits.read(c), float(c.limiter_offset.view("f8")[0]))

    @property
    def centre(self) -> float:
        """The difference in the middle of the window."""
        return self.samples_per_insert * self.min_fill

    @property
    def min_difference(self) -> float:
        """The difference below which sampling must not go."""
        return self.centre - self.error_buffer

    @property
    def max_difference(self) -> float:
        """The difference above which opening must not go."""
        return self.centre + self.error_buffer

    def difference(self, inserts: int, samples: int) -> float:
        """Return by how many draws production is ahead."""
        return inserts * self.samples_per_insert - samples + self.offset

    def changed_to(self, limits: Limits, inserts: int, samples: int) -> RateLimiter:
        """Return the limiter under other limits: the distance from the centre stays, within the new window."""
        new = RateLimiter.of(limits)
        if samples == 0 or new.samples_per_insert == 0:
            return new  # nothing was drawn yet: the window counts from the start, as min_fill does
        away = self.difference(inserts, samples) - self.centre if self.samples_per_insert else 0.0
        away = min(max(away, -new.error_buffer), new.error_buffer)
        return RateLimiter.of(limits, new.centre + away - new.difference(inserts, samples))

    def may_sample(self, inserts: int, samples: int, count: int, finished: bool) -> bool:
        """Return whether `count` groups may be drawn now."""
        if inserts < self.min_fill:
            return False
        if self.samples_per_insert == 0 or finished:
            return True
        return self.difference(inserts, samples) - count >= self.min_difference

    def may_insert(self, inserts: int, opened: int, samples: int, in_flight: int = 0) -> bool:
        """Return whether one more group may be opened while `opened` are being rendered; `in_flight` do not count."""
        if self.samples_per_insert == 0:
            return True
        counted = max(0, opened + 1 - in_flight)
        return self.difference(inserts + counted, samples) <= self.max_difference

    def check_batch(self, count: int) -> None:
        """Refuse draws of `count` groups if they can never be admitted.

        Raises:
            UserError: the arithmetic.
        """
        if self.samples_per_insert == 0:
            return
        window = 2 * self.error_buffer
        needed = count + self.samples_per_insert
        if window < needed:
            raise UserError(
                f"a batch of {count} groups needs a limiter window of {needed:g} (batch + "
                f"samples_per_insert) but 2 x ring.error_buffer = {window:g}; raise ring.error_buffer to "
                f"{needed / 2:g}"
            )
