"""The values that go in and out of the ring, and the states of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum


class Kind(IntEnum):
    """Draw category of a group: a caption alone, or a caption with its hard-negative twin."""

    PLAIN = 0
    PAIR = 1


class Polarity(IntEnum):
    """Whether a member shows the caption T+ or the negative caption T-."""

    POSITIVE = 0
    NEGATIVE = 1


class SlotState(IntEnum):
    FREE = 0
    WANTED = 1
    WRITING = 2  # owned by one live process; nobody else may touch its pixels until that process ends it or dies
    READY = 3
    FAILED = 4


class GroupState(IntEnum):
    FREE = 0
    OPEN = 1  # some members are WANTED or WRITING
    COMPLETE = 2  # every member ended and at least one positive is READY
    SKIPPED = 3  # keeps the place of a task without a group; no members, deterministic mode only


class ProcessState(IntEnum):
    FREE = 0
    LIVE = 1
    DEAD = 2  # reaped; the row is kept for the statistics until a newcomer needs it


@dataclass(frozen=True)
class Member:
    """One image a group asks for. generator: index into RingSpec.generators; seed: 0 <= seed < 2**64."""

    generator: int
    polarity: int
    seed: int


@dataclass(frozen=True)
class GroupRequest:
    """A caption to be rendered: a PAIR has a negative caption T-, a PLAIN group has None."""

    task_id: int
    kind: Kind
    caption: str
    negative: str | None
    members: Sequence[Member]


@dataclass(frozen=True)
class Claim:
    """The right to render one member, valid while the slot still has this generation number."""

    slot: int
    generation: int
    group: int
    member: int
    task_id: int
    generator: int
    polarity: int
    seed: int
    caption: str  # T+ for a positive member, T- for a negative one


@dataclass(frozen=True)
class DrawnGroup:
    """One caption of a batch. `kind`: as drawn; a group drawn as PLAIN may have a negative in the ring all the same,
    `has_negative`. `times_sampled`: draws before this one."""

    row: int
    generation: int
    task_id: int
    kind: Kind
    caption: str
    negative: str | None
    positive_slots: tuple[int, ...]
    negative_slots: tuple[int, ...]
    positive_generators: tuple[int, ...]
    negative_generators: tuple[int, ...]
    times_sampled: int
    has_negative: bool


@dataclass(frozen=True)
class DrawRecord:
    """What a batch consisted of: one entry per group in its order, PLAIN first. A draw log has one per step."""

    step: int
    task_ids: tuple[int, ...]
    kinds: tuple[Kind, ...]
    generations: tuple[int, ...]


@dataclass(frozen=True)
class DrawSummary:
    """What a leader knows of a batch: its record, each group's row, and whether it has a negative in the ring."""

    record: DrawRecord
    rows: tuple[int, ...]
    has_negative: tuple[bool, ...]


@dataclass(frozen=True)
class Draw:
    """A leased batch of groups: the PLAIN ones first, then the PAIR ones. Give it back with Ring.release."""

    step: int
    groups: tuple[DrawnGroup, ...]
    waited_s: float
    lease: int  # number of this draw within the process that made it

    @property
    def record(self) -> DrawRecord:
        groups = self.groups
        return DrawRecord(
            self.step,
            tuple(group.task_id for group in groups),
            tuple(group.kind for group in groups),
            tuple(group.generation for group in groups),
        )

    @property
    def summary(self) -> DrawSummary:
        """What a post of the same batch says."""
        groups = self.groups
        return DrawSummary(
            self.record, tuple(group.row for group in groups), tuple(group.has_negative for group in groups)
        )


class PinResult(Enum):
    """How Ring.hold ended."""

    PINNED = "pinned"
    FULL = "full"  # the holds have their share of the ring; counted
    GONE = "gone"  # the group was evicted, or its row has another group by now; counted
