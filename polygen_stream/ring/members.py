"""Members of open groups: claimed, committed or failed by renderers, oldest group first.

The group table is the work queue. A WRITING slot belongs to its owner until that process ends the member or
is dead; this is what lets pixels be written outside the mutex. Each claim raises the slot's generation
number and commit must show it, so a claim that was reaped is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.groups import finish_groups
from polygen_stream.ring.layout import CHUNK, Total, put_text
from polygen_stream.ring.records import Claim, Polarity, SlotState
from polygen_stream.ring.texts import get_caption
from polygen_stream.ring.undo_journal import Operation, UndoJournal


def claim(control: Control, process: int, generators: Sequence[int], limit: int) -> list[Claim]:
    """Claim up to min(limit, CHUNK) members of the generator with the largest backlog among `generators`."""
    c = control.columns
    c.process_serves[process] |= np.int64(sum(1 << generator for generator in set(generators)))
    with control.transition(Operation.CLAIM) as journal:
        wanted = np.flatnonzero(c.slot_state == SlotState.WANTED)
        backlog = np.bincount(c.slot_generator[wanted], minlength=len(control.spec.generators))
        generator = max(generators, key=lambda index: backlog[index])
        mine = wanted[c.slot_generator[wanted] == generator]
        oldest = np.lexsort((c.slot_member[mine], c.group_order[c.slot_group[mine]]))
        slots = mine[oldest[: min(limit, CHUNK)]]
        journal.set("slot_state", slots, int(SlotState.WRITING))
        journal.set("slot_owner", slots, process)
        journal.add("slot_generation", slots, 1)
        generations = c.slot_generation[slots]
    # Outside the mutex: a group with WRITING members stays OPEN, so its row does not change under us.
    return _claims_of(control, slots, generations)


def _claims_of(control: Control, slots: np.ndarray, generations: np.ndarray) -> list[Claim]:
    c = control.columns
    groups, polarities = c.slot_group[slots], c.slot_polarity[slots]
    shown = set(zip(groups.tolist(), polarities.tolist(), strict=True))
    captions = {text: get_caption(c, text[0], Polarity(text[1])).decode() for text in shown}
    rows = zip(
        slots.tolist(),
        generations.tolist(),
        groups.tolist(),
        c.slot_member[slots].tolist(),
        c.group_task[groups].tolist(),
        c.slot_generator[slots].tolist(),
        polarities.tolist(),
        c.slot_seed[slots].view("u8").tolist(),
        strict=True,
    )
    return [
        Claim(slot, generation, group, member, task_id, generator, polarity, seed, captions[group, polarity])
        for slot, generation, group, member, task_id, generator, polarity, seed in rows
    ]


def owned(control: Control, process: int, claims: Sequence[Claim]) -> np.ndarray:
    """Return which claims are still valid, bool [n]; of one given twice, the first. The caller holds the mutex."""
    c = control.columns
    slots = np.array([claim.slot for claim in claims], dtype=np.int64)
    generations = np.array([claim.generation for claim in claims], dtype=np.int64)
    written = (c.slot_state[slots] == SlotState.WRITING) & (c.slot_owner[slots] == process)
    valid = np.flatnonzero(written & (c.slot_generation[slots] == generations))
    held = np.zeros(len(claims), dtype=bool)
    held[valid[np.unique(slots[valid], return_index=True)[1]]] = True
    return held


def commit(control: Control, process: int, claims: Sequence[Claim], checksums: np.ndarray) -> list[bool]:
    """Make written members READY; refuse and count stale claims. At most CHUNK claims."""
    assert len(claims) <= CHUNK
    c = control.columns
    with control.transition(Operation.COMMIT) as journal:
        held = owned(control, process, claims)
        slots = np.array([claim.slot for claim in claims], dtype=np.int64)[held]
        journal.set("slot_checksum", slots, checksums[held])
        generators, counts = np.unique(c.slot_generator[slots], return_counts=True)
        journal.add("generator_committed", generators, counts)
        end_members(control, journal, slots, SlotState.READY)
        _count_stale(journal, held)
    return held.tolist()


def commit_images(control: Control, process: int, claims: Sequence[Claim], images: np.ndarray) -> list[bool]:
    """Write the images of valid claims (uint8 [n, H, W, 3]) and make their members READY. At most CHUNK claims."""
    with control.reading():
        valid = owned(control, process, claims)
    # Outside the mutex: from claim to commit only this process may write or free the slot.
    slots = np.array([claim.slot for claim in claims])
    if not valid.all():
        slots, images = slots[valid], images[valid]
    sums = np.zeros(len(claims), np.int64)
    sums[valid] = control.pixels.write(slots, images)
    return commit(control, process, claims, sums)


def fail(control: Control, process: int, claims: Sequence[Claim], reason: str) -> list[bool]:
    """Give members back after a failed render. At most CHUNK claims."""
    assert len(claims) <= CHUNK
    with control.transition(Operation.FAIL) as journal:
        held = owned(control, process, claims)
        for claim, valid in zip(claims, held, strict=True):
            if valid:
                put_text(control.columns.generator_reason[claim.generator], reason)
                retry_member(control, journal, claim.slot)
        _count_stale(journal, held)
    return held.tolist()


def _count_stale(journal: UndoJournal, held: np.ndarray) -> None:
    if not held.all():
        journal.add("total", int(Total.STALE), int(np.count_nonzero(~held)))


def retry_member(control: Control, journal: UndoJournal, slot: int, counted: bool = True) -> None:
    """Make a WRITING member WANTED again while its generator is up and retries are left, else FAILED.

    Args:
        control: the ring, in the caller's transition.
        journal: of that transition.
        slot: of the member.
        counted: whether this was one of the retries it has.
    """
    c = control.columns
    if (counted and c.slot_retries[slot] >= control.spec.max_retries) or c.generator_down[c.slot_generator[slot]]:
        fail_member(control, journal, slot)
        return
    journal.set("slot_state", slot, int(SlotState.WANTED))
    journal.set("slot_owner", slot, -1)
    journal.add("slot_retries", slot, int(counted))
    journal.add("total", int(Total.RETRIES), 1)


def fail_member(control: Control, journal: UndoJournal, slot: int) -> None:
    """Make a pending member FAILED."""
    journal.add("generator_failed", int(control.columns.slot_generator[slot]), 1)
    end_members(control, journal, np.array([slot]), SlotState.FAILED)


def end_members(control: Control, journal: UndoJournal, slots: np.ndarray, state: SlotState) -> None:
    """Move pending members (distinct slots) to READY or FAILED, and finish groups that have no more."""
    c = control.columns
    journal.set("slot_state", slots, int(state))
    journal.set("slot_owner", slots, -1)
    if state is SlotState.READY:
        positive = c.slot_polarity[slots] == Polarity.POSITIVE
        for counter, mine in (("group_positives", slots[positive]), ("group_negatives", slots[~positive])):
            journal.add(counter, *np.unique(c.slot_group[mine], return_counts=True))
    groups, ended = np.unique(c.slot_group[slots], return_counts=True)
    journal.add("group_pending", groups, -ended)
    done = groups[c.group_pending[groups] == 0]
    if done.size:
        finish_groups(control, journal, done)
