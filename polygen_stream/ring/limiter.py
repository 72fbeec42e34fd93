"""The rate limiter: Reverb's samples-per-insert window over group draws and completed groups.

    difference = inserts x samples_per_insert - samples
    centre     = samples_per_insert x min_fill
    centre - error_buffer <= difference <= centre + error_buffer

Sampling may not push the difference below the window, opening may not push it above. Openings count from
the moment they are admitted: every open group is an insert to come, and back-pressure acts only there. With
samples_per_insert = 0 only min_fill applies. Once production has finished the window no longer binds the
sampling side, which could only wait for ever; max_times_sampled still bounds reuse. (Cassirer et al. 2021,
Reverb, section 3.4.)"""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.errors import UserError
from polygen_stream.ring.spec import RingSpec


@dataclass(frozen=True)
class RateLimiter:
    """Pure arithmetic on the counters the caller read under the mutex."""

    samples_per_insert: float
    min_fill: int
    error_buffer: float

    @classmethod
    def of(cls, spec: RingSpec) -> RateLimiter:
        return cls(spec.samples_per_insert, spec.min_fill, spec.error_buffer)

    @property
    def min_difference(self) -> float:
        return self.samples_per_insert * self.min_fill - self.error_buffer

    @property
    def max_difference(self) -> float:
        return self.samples_per_insert * self.min_fill + self.error_buffer

    def difference(self, inserts: int, samples: int) -> float:
        return inserts * self.samples_per_insert - samples

    def may_sample(self, inserts: int, samples: int, count: int, finished: bool) -> bool:
        """Whether `count` groups may be drawn now."""
        if inserts < self.min_fill:
            return False
        if self.samples_per_insert == 0 or finished:
            return True
        return self.difference(inserts, samples) - count >= self.min_difference

    def may_insert(self, inserts: int, opened: int, samples: int) -> bool:
        """Whether one more group may be opened while `opened` groups are still being rendered."""
        if self.samples_per_insert == 0:
            return True
        return self.difference(inserts + opened + 1, samples) <= self.max_difference

    def check_batch(self, count: int) -> None:
        """Raises UserError when draws of `count` groups can never be admitted, with the arithmetic."""
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
