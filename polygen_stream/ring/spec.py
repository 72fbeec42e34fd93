"""What a ring is made of: everything that fixes its size and its rules. Frozen; only the limits it starts with may
change later (limits.py)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from polygen_stream.base.errors import UserError
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.window import check_window

MAX_GENERATORS = 62  # a process row records the generators it serves in one signed 8-byte mask


@dataclass(frozen=True)
class RingSpec:
    """Sizes and limits of a ring.

    slots: images the payload holds.  image_shape: (H, W, 3), uint8.
    groups: rows of the group table.  members: most images one group may ask for.
    caption_bytes: UTF-8 bytes reserved for each of T+ and T-.
    generators: names, in the order of the indices used everywhere else.
    seed: run seed, keys the order of draws.
    min_fill, max_times_sampled, samples_per_insert, error_buffer, max_age: first values of the limits, see Limits.
    max_retries: renders of one member that may fail before the member is FAILED.
    max_open: groups that may be OPEN at once (0 = as many as fill half of the slots). It bounds the lead of
        the captioner over the renderers, so that opening cannot push out the groups the trainer still reuses.
    max_backlog: images of one generator that may be WANTED or WRITING when a further group asks for some of it (0 =
        no bound). It bounds the lead over the slowest generator where captions do not use all of them.
    mode: "throughput" draws from what is ready; "deterministic" draws the batch of a step as a function of (seed,
        step) from a window of task ids, and waits until that window has ended (window.py); "replay" draws what it is
        told.
    window, inserts_per_step: that window's width in tasks, and how many tasks it moves on per step.
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
    max_age: int = 0
    max_backlog: int = 0
    mode: Literal["throughput", "deterministic", "replay"] = "throughput"
    window: int = 0
    inserts_per_step: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "generators", tuple(self.generators))
        for name in ("slots", "groups", "members", "caption_bytes"):
            if getattr(self, name) < 1:
                raise UserError(f"ring.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("max_retries", "max_open", "max_backlog", "window", "inserts_per_step"):
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
        if 0 < self.max_backlog < self.members:
            raise UserError(
                f"ring.max_backlog is {self.max_backlog}, but one group may ask a generator for {self.members} images; "
                "raise ring.max_backlog (0 = no bound)"
            )
        Limits.of(self).check(self.groups, self.slots)
        if self.mode == "deterministic":
            check_window(self)
        elif self.mode not in ("throughput", "replay"):
            raise UserError(f'ring.mode is {self.mode!r}; it must be "throughput", "deterministic" or "replay"')

    @property
    def deterministic(self) -> bool:
        return self.mode == "deterministic"

    @property
    def open_limit(self) -> int:
        """Groups that may be OPEN at once."""
        return self.max_open or max(1, self.slots // (2 * self.members))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole ring, control pages and payload."""
        from polygen_stream.ring.layout import RingLayout  # layout needs the spec; this is the one way back

        return RingLayout.of(self).total_bytes

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RingSpec:
        return cls(**json.loads(text))
