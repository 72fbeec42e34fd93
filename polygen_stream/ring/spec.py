"""What a ring is made of: everything that fixes its size and its rules, frozen for the life of a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from polygen_stream.errors import UserError

MAX_GENERATORS = 62  # a process row records the generators it serves in one signed 8-byte mask


@dataclass(frozen=True)
class RingSpec:
    """Sizes and limits of a ring.

    slots: images the payload holds.  image_shape: (H, W, 3), uint8.
    groups: rows of the group table.  members: most images one group may ask for.
    caption_bytes: UTF-8 bytes reserved for each of T+ and T-.
    generators: names, in the order of the indices used everywhere else.
    seed: run seed, keys the order of draws.
    min_fill: groups that must have been completed before the first draw.
    max_times_sampled: draws after which a group is used up (0 = no limit).
    samples_per_insert, error_buffer: the rate limiter's window (0 = off), see limiter.py.
    max_retries: renders of one member that may fail before the member is FAILED.
    max_open: groups that may be OPEN at once (0 = as many as fill half of the slots). It bounds the lead of
        the captioner over the renderers, so that opening cannot push out the groups the trainer still reuses.
    """

    slots: int
    image_shape: tuple[int, int, int]
    groups: int
    members: int
    caption_bytes: int
    generators: tuple[str, ...]
    seed: int
    min_fill: int = 1
    max_times_sampled: int = 0
    samples_per_insert: float = 0.0
    error_buffer: float = 0.0
    max_retries: int = 3
    max_open: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "generators", tuple(self.generators))
        for name in ("slots", "groups", "members", "caption_bytes", "min_fill"):
            if getattr(self, name) < 1:
                raise UserError(f"ring.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("max_times_sampled", "samples_per_insert", "error_buffer", "max_retries", "max_open"):
            if getattr(self, name) < 0:
                raise UserError(f"ring.{name} is {getattr(self, name)}; it must not be negative")
        if len(self.image_shape) != 3 or self.image_shape[2] != 3 or min(self.image_shape) < 1:
            raise UserError(f"ring image shape is {self.image_shape}; it must be (height, width, 3)")
        if not 1 <= len(self.generators) <= MAX_GENERATORS:
            raise UserError(f"the ring takes 1 to {MAX_GENERATORS} generators, got {len(self.generators)}")
        if len(set(self.generators)) != len(self.generators):
            raise UserError(f"generators are listed twice: {', '.join(self.generators)}")
        if self.members > self.slots:
            raise UserError(
                f"one group may need {self.members} images but the ring has only {self.slots} slots; raise ring.slots"
            )
        if self.min_fill > min(self.groups, self.slots):
            raise UserError(
                f"ring.min_fill {self.min_fill} can never be reached with {self.groups} groups and "
                f"{self.slots} slots; lower ring.min_fill or raise ring.slots"
            )
        window = 2 * self.error_buffer
        narrowest = 2 * max(1.0, self.samples_per_insert)
        if self.samples_per_insert > 0 and window < narrowest:
            raise UserError(
                f"ring.error_buffer {self.error_buffer} gives a limiter window of {window}, narrower than "
                f"2 x max(1, samples_per_insert) = {narrowest}: both sides would wait for ever; "
                "raise ring.error_buffer"
            )

    @property
    def open_limit(self) -> int:
        """Groups that may be OPEN at once."""
        return self.max_open or max(1, self.slots // (2 * self.members))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole ring, control pages and payload."""
        from polygen_stream.ring.layout import Layout  # layout needs the spec; this is the one way back

        return Layout.of(self).total_bytes

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RingSpec:
        return cls(**json.loads(text))
