"""Groups: opened whole or not at all, completed when their last member ends, freed whole.

Back-pressure acts only at opening, so a fast generator can never fill the ring with groups that cannot
complete.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import CaptionTooLong, GeneratorsDown
from polygen_stream.ring.eviction import evictable
from polygen_stream.ring.kept_images import ChosenSlots, first_free
from polygen_stream.ring.layout import CHUNK, FEEDBACK_NAMES, RingColumns, Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.pixel_file import RECORD
from polygen_stream.ring.records import GROUP_KINDS, GroupRequest, GroupState, Kind, Member, Polarity, SlotState
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.tasks import admits_task, mark_skipped, note_known
from polygen_stream.ring.texts import put_caption, text_key
from polygen_stream.ring.undo_journal import Operation, UndoJournal

_POLARITIES = frozenset(Polarity)


@dataclass(frozen=True)
class Opening:
    """A checked request for a group."""

    task_id: int
    kind: Kind
    texts: tuple[bytes, ...]  # T+ and, for a pair, T-
    members: tuple[Member, ...]
    axis: int = -1  # row of the feedback board
    concept: int = -1


def check_opening(spec: RingSpec, request: GroupRequest) -> Opening:
    """Check a request and encode its captions.

    Raises:
        CaptionTooLong: a caption has more than spec.caption_bytes bytes.
        ValueError: the request contradicts itself or the spec.
    """
    if not 0 <= request.task_id < 2**63:
        raise ValueError(f"task id {request.task_id} is not in 0 .. 2**63 - 1")
    kind = Kind(request.kind)
    if kind not in GROUP_KINDS:
        raise ValueError(f"task {request.task_id}: a group is PLAIN or PAIR, and not {kind.name}")
    if (request.negative is not None) != (kind is Kind.PAIR):
        raise ValueError(f"task {request.task_id}: a PAIR group needs a negative caption and a PLAIN group has none")
    if request.negative == request.caption:
        raise ValueError(f"task {request.task_id}: the negative caption equals the caption: {request.caption!r}")
    _check_members(spec, request.task_id, kind, request.members)
    for name, row in (("axis", request.axis), ("concept", request.concept)):
        if not -1 <= row < FEEDBACK_NAMES:
            raise ValueError(f"task {request.task_id}: {name} row {row} is not in -1 .. {FEEDBACK_NAMES - 1}")
    texts = _checked_texts(spec, request)
    return Opening(request.task_id, kind, texts, tuple(request.members), request.axis, request.concept)


def _check_members(spec: RingSpec, task_id: int, kind: Kind, members: Sequence[Member]) -> None:
    if not 1 <= len(members) <= spec.members:
        raise ValueError(f"task {task_id} asks for {len(members)} images; a group holds 1 to {spec.members}")
    for member in members:
        if not 0 <= member.generator < len(spec.generators):
            raise ValueError(f"task {task_id}: generator {member.generator} of {len(spec.generators)}")
        if member.polarity not in _POLARITIES or not 0 <= member.seed < 2**64:
            raise ValueError(f"task {task_id}: {member} needs polarity 0 or 1 and a seed of 64 unsigned bits")
    polarities = {member.polarity for member in members}
    if Polarity.POSITIVE not in polarities:
        raise ValueError(f"task {task_id} asks for no positive image")
    if kind is Kind.PLAIN and Polarity.NEGATIVE in polarities:
        raise ValueError(f"task {task_id} is PLAIN but asks for a negative image")


def _checked_texts(spec: RingSpec, request: GroupRequest) -> tuple[bytes, ...]:
    """Return T+ and, for a pair, T- as UTF-8."""
    texts = tuple(text.encode() for text in (request.caption, request.negative) if text is not None)
    longest = max(texts, key=len)
    if not min(len(text) for text in texts):
        raise ValueError(f"task {request.task_id} has an empty caption")
    if len(longest) > spec.caption_bytes:
        raise CaptionTooLong(
            f"task {request.task_id}: caption of {len(longest)} bytes, ring.caption_bytes is {spec.caption_bytes}: "
            f"{longest[:40].decode(errors='ignore')!r}...; shorten it or raise ring.caption_bytes"
        )
    return texts


def try_open(control: Control, openings: Sequence[Opening]) -> list[int] | None:
    """Open as many of these groups, from the first on, as limiter, bounds and room (after eviction) allow now.

    Returns:
        Their rows; None if none can be opened now.
    """
    spec, c = control.spec, control.columns
    with control.transition(Operation.OPEN):
        _check_possible(control, openings)
        count = _admitted(control, openings)
        while count:
            slots = sum(len(opening.members) for opening in openings[:count])
            victims = evictable(c, spec, slots, count, openings[0].task_id)
            if victims is not None:
                evict(control, victims)
                return _fill_rows(control, control.next_transition(Operation.OPEN), openings[:count])
            count //= 2
        return None


def _check_possible(control: Control, openings: Sequence[Opening]) -> None:
    down = control.columns.generator_down
    if control.total(Total.FINISHED):
        raise PolygenError(f"task {openings[0].task_id} was opened after finish_opening; call that last")
    for opening in openings if down.any() else ():
        if all(down[m.generator] for m in opening.members if m.polarity == Polarity.POSITIVE):
            names = sorted({control.spec.generators[m.generator] for m in opening.members})
            raise GeneratorsDown(
                f"task {opening.task_id}: every generator of its positives is down: {', '.join(names)}"
            )


def _admitted(control: Control, openings: Sequence[Opening]) -> int:
    """Return how many of the openings, from the first on, the limiter and the bounds allow now, room aside."""
    spec = control.spec
    open_now = int(np.count_nonzero(control.columns.group_state == GroupState.OPEN))
    # a chunk of members at most, so that the critical section stays short and the journal can hold it
    ends = itertools.accumulate(len(opening.members) for opening in openings)
    count = min(max(1, sum(end <= CHUNK for end in ends)), max(0, spec.open_limit - open_now))
    if spec.deterministic or full_backlogs(control, [m for opening in openings[:count] for m in opening.members]):
        count = min(count, 1)
    if not count or full_backlogs(control, openings[0].members):
        return 0
    if spec.deterministic:
        return int(admits_task(control, openings[0].task_id))
    while count and not _limiter_admits(control, open_now + count - 1):
        count -= 1
    return count


def try_skip(control: Control, task_id: int) -> int | None:
    """Enter a task without a group. Return None while there is no room.

    A deterministic ring gives it a row, which is returned; any other only records that the task is known, and returns
    -1.
    """
    with control.transition(Operation.SKIP) as journal:
        if control.total(Total.FINISHED):
            raise PolygenError(f"task {task_id} was skipped after finish_opening; call that last")
        if not control.spec.deterministic:
            note_known(control, journal, task_id)
            return -1
        if not admits_task(control, task_id):
            return None
        victims = evictable(control.columns, control.spec, 0, 1, task_id)
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
    """Free groups inside the caller's transition, in transitions of their own.

    The text of a reused row is not journalled, so an eviction has to be final.
    """
    c = control.columns
    for start in range(0, len(victims), CHUNK):
        rows = np.array(victims[start : start + CHUNK])
        journal = control.next_transition(Operation.EVICT)
        complete = int(np.count_nonzero(c.group_state[rows] == GroupState.COMPLETE))
        journal.add("total", int(Total.EVICTED), complete)
        if control.spec.deterministic:
            passed = int(c.group_task[rows].max()) + 1
            journal.set("total", int(Total.PASSED), max(passed, control.total(Total.PASSED)))
        _free_groups(control, journal, rows)


def full_backlogs(control: Control, members: Sequence[Member]) -> list[int]:
    """Return the generators that would exceed max_backlog with these members."""
    c, most = control.columns, control.spec.max_backlog
    if not most:
        return []
    pending = (c.slot_state == SlotState.WANTED) | (c.slot_state == SlotState.WRITING)
    backlog = np.bincount(c.slot_generator[pending], minlength=len(control.spec.generators))
    asked = np.bincount([member.generator for member in members], minlength=len(control.spec.generators))
    return np.flatnonzero((asked > 0) & (backlog + asked > most)).tolist()


def _limiter_admits(control: Control, open_now: int) -> bool:
    limiter = RateLimiter.read(control.columns)
    completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
    if limiter.may_insert(completed, open_now, samples, control.spec.in_flight):
        return True
    # The trainer waits for groups and not for the window: holding them back would stop both sides.
    return bool(control.total(Total.STARVED_ANY)) and open_now < control.total(Total.MISSING)


def _fill_rows(control: Control, journal: UndoJournal, openings: Sequence[Opening]) -> list[int]:
    c = control.columns
    counts = np.array([len(opening.members) for opening in openings])
    starts = np.cumsum(counts) - counts
    members = [member for opening in openings for member in opening.members]
    rows = np.flatnonzero(c.group_state == GroupState.FREE)[: len(openings)]
    number = np.arange(len(members)) - np.repeat(starts, counts)  # within its group
    chosen = _choose_slots(control, openings, number, members)
    slots, has_image = chosen.slots, chosen.has_image
    for row, opening in zip(rows.tolist(), openings, strict=True):
        for polarity, text in zip(Polarity, opening.texts, strict=False):  # a plain group has no T-
            put_caption(c, row, polarity, text)
    row = np.repeat(rows, counts)  # of each member
    generators = np.array([member.generator for member in members])
    polarities = np.array([member.polarity for member in members])
    down = (c.generator_down[generators] != 0) & ~has_image
    journal.set(
        "slot_state", slots, np.select([has_image, down], [SlotState.READY, SlotState.FAILED], SlotState.WANTED)
    )
    if control.kept_images is not None:
        journal.set("slot_kept", slots, 0)
    journal.set("slot_generator", slots, generators)
    journal.set("slot_polarity", slots, polarities)
    journal.set("slot_member", slots, number)
    journal.set("slot_retries", slots, 0)
    journal.set("slot_group", slots, row)
    journal.set("slot_seed", slots, np.array([member.seed for member in members], "u8").view("i8"))
    journal.set("group_slot", row * control.spec.members + number, slots)
    twins = [opening.texts[1] if len(opening.texts) == 2 else None for opening in openings]
    for name, value in (
        ("group_state", int(GroupState.OPEN)),
        ("group_kind", np.array([opening.kind for opening in openings])),
        ("group_members", counts),
        ("group_pending", np.add.reduceat(~down & ~has_image, starts, dtype=np.int64)),
        ("group_positives", np.add.reduceat(has_image & (polarities == Polarity.POSITIVE), starts, dtype=np.int64)),
        ("group_negatives", np.add.reduceat(has_image & (polarities == Polarity.NEGATIVE), starts, dtype=np.int64)),
        ("group_times", 0),
        ("group_round", -1),
        ("group_generation", c.group_generation[rows] + 1),
        ("group_task", np.array([opening.task_id for opening in openings])),
        ("group_order", control.total(Total.SEQUENCE) + np.arange(len(openings))),
        ("group_step", control.total(Total.STEP)),
        ("group_axis", np.array([opening.axis for opening in openings])),
        ("group_concept", np.array([opening.concept for opening in openings])),
        ("group_caption_key", np.array([text_key(opening.texts[0]) for opening in openings])),
        ("group_negative_key", np.array([text_key(twin) if twin else 0 for twin in twins])),
        ("group_caption_bytes", np.array([len(opening.texts[0]) for opening in openings])),
        ("group_negative_bytes", np.array([len(twin) if twin else -1 for twin in twins])),
    ):
        journal.set(name, rows, value)
    journal.set("group_shown", np.concatenate([2 * rows, 2 * rows + 1]), 0)
    c.slot_drawn[slots] = 0
    journal.add("total", int(Total.SEQUENCE), len(openings))
    journal.add("total", int(Total.OPENED), len(openings))
    note_known(control, journal, max(opening.task_id for opening in openings))
    if down.any():
        journal.add("generator_failed", *np.unique(generators[down], return_counts=True))
    if has_image.any():
        _add_images(control, journal, chosen, rows)
    return rows.tolist()


def _choose_slots(
    control: Control, openings: Sequence[Opening], number: np.ndarray, members: Sequence[Member]
) -> ChosenSlots:
    kept = control.kept_images
    if kept is None:
        return first_free(control.columns, len(members))
    counts = [len(opening.members) for opening in openings]
    wanted = np.zeros(len(members), RECORD)
    wanted["task_plus_1"] = np.repeat([opening.task_id + 1 for opening in openings], counts)
    wanted["text"] = [text_key(opening.texts[m.polarity]) for opening in openings for m in opening.members]
    wanted["seed"] = np.array([member.seed for member in members], "u8").view("i8")
    wanted["member"], wanted["generator"] = number, [member.generator for member in members]
    return kept.choose(control.columns, wanted)


def _add_images(control: Control, journal: UndoJournal, chosen: ChosenSlots, groups: np.ndarray) -> None:
    """Count images that new groups had when they were opened, and complete those groups that lack none."""
    c, slots = control.columns, chosen.slots[chosen.has_image]
    journal.set("slot_checksum", slots, chosen.checksums[chosen.has_image])
    journal.add("generator_committed", *np.unique(c.slot_generator[slots], return_counts=True))
    complete = groups[c.group_pending[groups] == 0]
    if complete.size:
        finish_groups(control, journal, complete)


def finish_groups(control: Control, journal: UndoJournal, groups: np.ndarray) -> None:
    """Complete groups whose last members have ended, or drop those without a positive image."""
    c, spec = control.columns, control.spec
    dropped = groups[c.group_positives[groups] == 0]
    _free_groups(control, journal, dropped)
    journal.add("total", int(Total.DROPPED), dropped.size)
    if spec.deterministic:
        for group in dropped.tolist():
            mark_skipped(journal, group)
    groups = groups[c.group_positives[groups] > 0]
    journal.set("group_state", groups, int(GroupState.COMPLETE))
    journal.add("total", int(Total.COMPLETED), groups.size)
    slots, inside = _slots_of(control, groups)
    degraded = (inside & (c.slot_state[slots] == SlotState.FAILED)).any(axis=1)
    wanted_negatives = (inside & (c.slot_polarity[slots] == Polarity.NEGATIVE)).any(axis=1)
    demoted = groups[wanted_negatives & (c.group_negatives[groups] == 0)]
    journal.add("total", int(Total.DEGRADED), int(np.count_nonzero(degraded)))
    journal.set("group_kind", demoted, int(Kind.PLAIN))
    journal.add("total", int(Total.DEMOTED), demoted.size)
    new = groups[c.group_round[groups] < 0]  # a restored group whose images were rendered again keeps its own
    journal.set("group_round", new, round_of(c, new))


def round_of(c: RingColumns, groups: np.ndarray) -> np.ndarray:
    """Return the round (picking.py) of the kind of each group, int64 [n]."""
    return np.where(c.group_kind[groups] == Kind.PAIR, c.total[Total.PAIR_ROUND], c.total[Total.ROUND])


def _free_groups(control: Control, journal: UndoJournal, groups: np.ndarray) -> None:
    slots, inside = _slots_of(control, groups)
    journal.set("slot_state", slots[inside], int(SlotState.FREE))
    journal.set("slot_group", slots[inside], -1)
    journal.set("group_state", groups, int(GroupState.FREE))
    journal.set("group_pinned", groups, 0)


def _slots_of(control: Control, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slots by [group, member], and which of them belong to the group: int32 and bool [n, members]."""
    c, spec = control.columns, control.spec
    slots = c.group_slot.reshape(spec.groups, spec.members)[groups]
    return slots, np.arange(spec.members) < c.group_members[groups][:, None]
