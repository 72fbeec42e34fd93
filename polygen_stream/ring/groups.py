"""Groups: opened whole or not at all, completed when their last member ends, freed whole.

Back-pressure acts only at opening, so a fast generator can never fill the ring with groups that cannot
complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polygen_stream.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import CaptionTooLong
from polygen_stream.ring.eviction import evictable
from polygen_stream.ring.journal import Journal, Operation
from polygen_stream.ring.layout import Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.records import GroupState, Kind, Member, Polarity, SlotState
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.tasks import admits_task, mark_skipped, note_known
from polygen_stream.ring.texts import put_caption, text_key


@dataclass(frozen=True)
class Opening:
    """A checked request for a group."""

    task_id: int
    kind: Kind
    texts: tuple[bytes, ...]  # T+ and, for a pair, T-
    members: tuple[Member, ...]


def check_opening(
    spec: RingSpec, task_id: int, kind: Kind, caption: str, negative: str | None, members: Sequence[Member]
) -> Opening:
    """Raises CaptionTooLong, or ValueError for a request that makes no sense."""
    kind = Kind(kind)
    if not 0 <= task_id < 2**63:
        raise ValueError(f"task id {task_id} is not in 0 .. 2**63 - 1")
    if (negative is not None) != (kind is Kind.PAIR):
        raise ValueError(f"task {task_id}: a PAIR group needs a negative caption and a PLAIN group has none")
    if negative == caption:
        raise ValueError(f"task {task_id}: the negative caption equals the caption: {caption!r}")
    if not 1 <= len(members) <= spec.members:
        raise ValueError(f"task {task_id} asks for {len(members)} images; a group holds 1 to {spec.members}")
    for member in members:
        if not 0 <= member.generator < len(spec.generators):
            raise ValueError(f"task {task_id}: generator {member.generator} of {len(spec.generators)}")
        if member.polarity not in (Polarity.POSITIVE, Polarity.NEGATIVE) or not 0 <= member.seed < 2**64:
            raise ValueError(f"task {task_id}: {member} needs polarity 0 or 1 and a seed of 64 unsigned bits")
    if all(member.polarity == Polarity.NEGATIVE for member in members):
        raise ValueError(f"task {task_id} asks for no positive image")
    if kind is Kind.PLAIN and any(member.polarity == Polarity.NEGATIVE for member in members):
        raise ValueError(f"task {task_id} is PLAIN but asks for a negative image")
    texts = tuple(text.encode() for text in (caption, negative) if text is not None)
    longest = max(texts, key=len)
    if not min(len(text) for text in texts):
        raise ValueError(f"task {task_id} has an empty caption")
    if len(longest) > spec.caption_bytes:
        raise CaptionTooLong(
            f"task {task_id}: caption of {len(longest)} bytes, ring.caption_bytes is {spec.caption_bytes}: "
            f"{longest[:40].decode(errors='ignore')!r}...; shorten it or raise ring.caption_bytes"
        )
    return Opening(task_id, kind, texts, tuple(members))


def try_open(control: Control, opening: Opening) -> int | None:
    """Opens the group if limiter, bounds and room (after eviction) allow it now; its row or None."""
    spec, c = control.spec, control.columns
    with control.transition(Operation.OPEN):
        if control.total(Total.FINISHED):
            raise PolygenError(f"task {opening.task_id} was opened after finish_opening; call that last")
        if all(c.generator_down[m.generator] for m in opening.members if m.polarity == Polarity.POSITIVE):
            names = sorted({spec.generators[m.generator] for m in opening.members})
            raise PolygenError(f"task {opening.task_id}: every generator of its positives is down: {', '.join(names)}")
        open_now = int(np.count_nonzero(c.group_state == GroupState.OPEN))
        if open_now >= spec.open_limit or full_backlogs(control, opening.members):
            return None
        admitted = admits_task(control, opening.task_id) if spec.deterministic else _limiter_admits(control, open_now)
        if not admitted:
            return None
        victims = evictable(c, spec, len(opening.members), opening.task_id)
        if victims is None:
            return None
        evict(control, victims)
        return _fill_row(control, control.next_transition(Operation.OPEN), opening)


def try_skip(control: Control, task_id: int) -> int | None:
    """Enters a task without a group into a deterministic ring; its row, or None while there is no room."""
    with control.transition(Operation.SKIP):
        if control.total(Total.FINISHED):
            raise PolygenError(f"task {task_id} was skipped after finish_opening; call that last")
        if not admits_task(control, task_id):
            return None
        victims = evictable(control.columns, control.spec, 0, task_id)
        if victims is None:
            return None
        evict(control, victims)
        journal = control.next_transition(Operation.SKIP)
        row = int(np.flatnonzero(control.columns.group_state == GroupState.FREE)[0])
        mark_skipped(journal, row)
        journal.set("group_task", row, task_id)
        journal.add("total", int(Total.SKIPPED), 1)
        note_known(control, journal, task_id)
        return row


def evict(control: Control, victims: Sequence[int]) -> None:
    """Frees groups inside the caller's transition, each in one of its own: the text of a reused row is not
    journalled, so an eviction must be final."""
    for victim in victims:
        journal = control.next_transition(Operation.EVICT)
        if control.columns.group_state[victim] == GroupState.COMPLETE:
            journal.add("total", int(Total.EVICTED), 1)
        if control.spec.deterministic:
            passed = int(control.columns.group_task[victim]) + 1
            journal.set("total", int(Total.PASSED), max(passed, control.total(Total.PASSED)))
        _free_group(control, journal, victim)


def full_backlogs(control: Control, members: Sequence[Member]) -> list[int]:
    """Generators of these members whose bound max_backlog they would exceed."""
    c, most = control.columns, control.spec.max_backlog
    if not most:
        return []
    pending = (c.slot_state == SlotState.WANTED) | (c.slot_state == SlotState.WRITING)
    backlog = np.bincount(c.slot_generator[pending], minlength=len(control.spec.generators))
    asked = np.bincount([member.generator for member in members], minlength=len(control.spec.generators))
    return np.flatnonzero((asked > 0) & (backlog + asked > most)).tolist()


def _limiter_admits(control: Control, open_now: int) -> bool:
    limiter = RateLimiter.read(control.columns)
    if limiter.may_insert(control.total(Total.COMPLETED), open_now, control.total(Total.SAMPLES)):
        return True
    # The trainer waits for groups and not for the window: holding them back would stop both sides.
    return bool(control.total(Total.HUNGRY)) and open_now < control.total(Total.MISSING)


def _fill_row(control: Control, journal: Journal, opening: Opening) -> int:
    c = control.columns
    members = opening.members
    count = len(members)
    row = int(np.flatnonzero(c.group_state == GroupState.FREE)[0])
    slots = np.flatnonzero(c.slot_state == SlotState.FREE)[:count]
    texts = opening.texts
    for polarity, text in zip(Polarity, texts, strict=False):  # a plain group has no T-
        put_caption(c, row, polarity, text)
    generators = np.array([member.generator for member in members])
    down = c.generator_down[generators] != 0
    journal.set("slot_state", slots, np.where(down, SlotState.FAILED, SlotState.WANTED))
    journal.set("slot_generator", slots, generators)
    journal.set("slot_polarity", slots, np.array([member.polarity for member in members]))
    journal.set("slot_member", slots, np.arange(count))
    journal.set("slot_retries", slots, 0)
    journal.set("slot_group", slots, row)
    journal.set("slot_seed", slots, np.array([member.seed for member in members], "u8").view("i8"))
    journal.set("group_slot", row * control.spec.members + np.arange(count), slots)
    sequence = control.total(Total.SEQUENCE)
    for name, value in (
        ("group_state", GroupState.OPEN),
        ("group_kind", opening.kind),
        ("group_members", count),
        ("group_pending", count - int(down.sum())),
        ("group_positives", 0),
        ("group_negatives", 0),
        ("group_times", 0),
        ("group_generation", int(c.group_generation[row]) + 1),
        ("group_task", opening.task_id),
        ("group_order", sequence),
        ("group_step", control.total(Total.STEP)),
        ("group_caption_key", text_key(texts[0])),
        ("group_negative_key", text_key(texts[1]) if len(texts) == 2 else 0),
        ("group_caption_bytes", len(texts[0])),
        ("group_negative_bytes", len(texts[1]) if len(texts) == 2 else -1),
    ):
        journal.set(name, row, int(value))
    journal.add("total", int(Total.SEQUENCE), 1)
    journal.add("total", int(Total.OPENED), 1)
    if control.spec.deterministic:
        note_known(control, journal, opening.task_id)
    for generator in generators[down].tolist():
        journal.add("generator_failed", generator, 1)
    return row


def finish_group(control: Control, journal: Journal, group: int) -> None:
    """The last member of a group ended: complete it, or drop it when it has no positive image."""
    c = control.columns
    if c.group_positives[group] == 0:
        _free_group(control, journal, group)
        journal.add("total", int(Total.DROPPED), 1)
        if control.spec.deterministic:
            mark_skipped(journal, group)
        return
    journal.set("group_state", group, int(GroupState.COMPLETE))
    journal.add("total", int(Total.COMPLETED), 1)
    slots = _slots_of(control, group)
    if (c.slot_state[slots] == SlotState.FAILED).any():
        journal.add("total", int(Total.DEGRADED), 1)
    wanted_negatives = (c.slot_polarity[slots] == Polarity.NEGATIVE).any()
    if wanted_negatives and c.group_negatives[group] == 0:
        journal.set("group_kind", group, int(Kind.PLAIN))
        journal.add("total", int(Total.DEMOTED), 1)


def _free_group(control: Control, journal: Journal, group: int) -> None:
    slots = _slots_of(control, group)
    journal.set("slot_state", slots, int(SlotState.FREE))
    journal.set("slot_group", slots, -1)
    journal.set("group_state", group, int(GroupState.FREE))
    journal.set("group_held", group, 0)


def _slots_of(control: Control, group: int) -> np.ndarray:
    first = group * control.spec.members
    return control.columns.group_slot[first : first + int(control.columns.group_members[group])]
