"""The values that go in and out of the ring, and the states of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum


class Kind(IntEnum):
    """Kind of a group, and which of its texts a draw takes."""

    PLAIN = 0  # a caption alone
    PAIR = 1  # a caption with its hard-negative twin
    NEGATIVE = 2  # only of a draw: the hard negative of a PAIR group without its caption


GROUP_KINDS = (Kind.PLAIN, Kind.PAIR)  # what a group in the ring can be


class Polarity(IntEnum):
    """Whether a member shows the caption T+ or the negative caption T-."""

    POSITIVE = 0
    NEGATIVE = 1


class SlotState(IntEnum):
    """State of one image slot."""

    FREE = 0
    WANTED = 1  # part of a group, to be rendered
    WRITING = 2  # owned by one live process; no other may touch its pixels until that process ends it or dies
    READY = 3  # has its image
    FAILED = 4  # has none, and will have none


class GroupState(IntEnum):
    """State of one row of the group table."""

    FREE = 0
    OPEN = 1  # some members are WANTED or WRITING
    COMPLETE = 2  # every member ended and at least one positive is READY
    SKIPPED = 3  # placeholder of a task without a group; no members, deterministic mode only


class ProcessState(IntEnum):
    """State of one row of the process table."""

    FREE = 0
    LIVE = 1
    DEAD = 2  # reaped; the row is kept for the statistics until another process needs it


@dataclass(frozen=True)
class Member:
    """One image a group asks for.

    Attributes:
        generator: index into RingSpec.generators.
        polarity: a Polarity.
        seed: of the image, 0 <= seed < 2**64.
    """

    generator: int
    polarity: int
    seed: int


@dataclass(frozen=True)
class GroupRequest:
    """A caption to be rendered.

    Attributes:
        task_id: unique in the run, 0 <= task_id < 2**63.
        kind: PLAIN or PAIR.
        caption: T+.
        negative: T- of a PAIR, None of a PLAIN group.
        members: its images; at least one is positive.
        axis: row of the feedback board (feedback.py) for its axis, -1 = none.
        concept: the same for its concept.
    """

    task_id: int
    kind: Kind
    caption: str
    negative: str | None
    members: Sequence[Member]
    axis: int = -1
    concept: int = -1


@dataclass(frozen=True)
class Claim:
    """The right to render one member, valid while its slot still has this generation number.

    Attributes:
        slot: where the image goes.
        generation: of the slot, raised by every claim.
        group: row of the group table.
        member: number of the image in its group.
        task_id: the task of the group.
        generator: index into RingSpec.generators.
        polarity: a Polarity.
        seed: of the image, 0 <= seed < 2**64.
        caption: T+ for a positive member, T- for a negative one.
    """

    slot: int
    generation: int
    group: int
    member: int
    task_id: int
    generator: int
    polarity: int
    seed: int
    caption: str


@dataclass(frozen=True)
class DrawRequest:
    """The batch that a step asks for: so many different captions, and which ones if the caller says so.

    Attributes:
        step: training step; the order of draws is keyed by it.
        plain: groups of which one text is drawn.
        pair: groups of which the caption is drawn with its negative.
        first: (row, generation) of groups drawn before others of their kind, in this order, as far as they are in the
            ring. Throughput mode only; a deterministic ring ignores them.
        exactly: record of the batch to draw. A ring in replay mode draws it and nothing else; any other ring ignores
            it.
        by_coin: whether a coin, keyed by (seed, step, task id), decides which text of a PAIR group is drawn where
            `plain` asks for one; if not, it is the caption. Ignored in replay mode.
        other_sides: (row, generation, polarity) of each text of a batch of `plain` texts and no pair, which a draw in
            throughput mode then takes and no others; T+ instead of a T- whose images were rendered again after a
            resumption and all failed. The groups have to be pinned. Their rounds stay as they are.
        steps_left: steps of the run after this one, for RingSpec.catch_up; None = unknown, no group catches up.
    """

    step: int
    plain: int
    pair: int
    first: Sequence[tuple[int, int]] = ()
    exactly: DrawRecord | None = None
    by_coin: bool = False
    other_sides: Sequence[tuple[int, int, int]] = ()
    steps_left: int | None = None

    @property
    def groups(self) -> int:
        """Number of groups in the batch."""
        return self.plain + self.pair


@dataclass(frozen=True)
class DrawnGroup:
    """One caption of a batch, and where its images are.

    Attributes:
        row: of the group table.
        generation: tells this group from others that used or will use the row.
        task_id: the task it was opened for.
        kind: as drawn. A group drawn as PLAIN may be a PAIR in the ring, see has_negative.
        caption: T+; T- of a group drawn as NEGATIVE.
        negative: T- of a group drawn as PAIR, else None.
        positive_slots: slots of the READY images of `caption` that the draw takes.
        negative_slots: those of `negative`; empty unless drawn as PAIR.
        positive_generators: generator of each of `positive_slots`.
        negative_generators: generator of each of `negative_slots`.
        times_sampled: draws before this one.
        has_negative: whether the group is a PAIR in the ring.
        feedback_rows: rows of the feedback board for its axis and its concept, -1 = none.
    """

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
    feedback_rows: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class DrawRecord:
    """The groups of a batch, one entry each in its order: PLAIN, NEGATIVE, PAIR. A draw log has a record per step.

    Attributes:
        step: training step.
        task_ids: of the groups.
        kinds: as drawn.
        generations: generation numbers of their rows.
        turns: numbers by which the images of T+ and of T- were chosen (views.py); empty if a draw takes all images.
    """

    step: int
    task_ids: tuple[int, ...]
    kinds: tuple[Kind, ...]
    generations: tuple[int, ...]
    turns: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class DrawSummary:
    """The groups of a whole batch without their images: what the rank that draws for others knows of it.

    Attributes:
        record: task ids, kinds and generations.
        rows: row of each group.
        has_negative: whether each group is a PAIR in the ring.
    """

    record: DrawRecord
    rows: tuple[int, ...]
    has_negative: tuple[bool, ...]

    @property
    def other_sides(self) -> list[tuple[int, int, int]]:
        """(row, generation, polarity) of the text that was not drawn, of each PAIR group drawn with one of its two."""
        other = {Kind.PLAIN: int(Polarity.NEGATIVE), Kind.NEGATIVE: int(Polarity.POSITIVE)}
        groups = zip(self.rows, self.record.generations, self.record.kinds, self.has_negative, strict=True)
        return [(row, generation, other[kind]) for row, generation, kind, both in groups if both and kind in other]


@dataclass(frozen=True)
class Draw:
    """A leased batch of groups: PLAIN ones first, then NEGATIVE and PAIR ones. Ring.release ends the lease.

    Attributes:
        step: the step it was drawn for.
        groups: the groups in the order of the batch.
        waited_s: seconds that the draw waited.
        lease: number of this draw within the process that made it.
        turns: as in DrawRecord.
    """

    step: int
    groups: tuple[DrawnGroup, ...]
    waited_s: float
    lease: int
    turns: tuple[tuple[int, int], ...] = ()

    @property
    def record(self) -> DrawRecord:
        """The batch as a draw log records it."""
        groups = self.groups
        return DrawRecord(
            self.step,
            tuple(group.task_id for group in groups),
            tuple(group.kind for group in groups),
            tuple(group.generation for group in groups),
            self.turns,
        )

    @property
    def summary(self) -> DrawSummary:
        """The same summary that Ring.broadcast returns."""
        groups = self.groups
        return DrawSummary(
            self.record, tuple(group.row for group in groups), tuple(group.has_negative for group in groups)
        )


class PinResult(Enum):
    """What Ring.pin did."""

    PINNED = "pinned"
    FULL = "full"  # as many groups are pinned as may be; counted
    GONE = "gone"  # the group was evicted, and its row may have another one; counted
