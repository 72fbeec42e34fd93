"""Members of open groups: claimed, committed or failed by renderers, oldest group first.

The group table is the work queue. A WRITING slot belongs to its owner until that process ends the member or is
dead; this is what lets pixels be written outside the mutex. Each claim raises the slot's generation number and
commit must show it, so a claim that was reaped is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.ring.control import Control
from polygen_stream.ring.groups import caption_text, finish_group
from polygen_stream.ring.journal import Journal, Operation
from polygen_stream.ring.layout import CHUNK, Total, put_text
from polygen_stream.ring.records import Claim, Polarity, SlotState


def claim(control: Control, process: int, generators: Sequence[int], limit: int) -> list[Claim]:
    """Claims up to min(limit, CHUNK) members of the generator with the largest backlog among `generators`."""
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
        generations = c.slot_generation[slots].tolist()
    # Outside the mutex: a group with WRITING members stays OPEN, so its row does not change under us.
    return [
        _claim_of(control, slot, generation)
        for slot, generation in zip(slots.tolist(), generations, strict=True)
    ]


def _claim_of(control: Control, slot: int, generation: int) -> Claim:
    c = control.columns
    group = int(c.slot_group[slot])
    polarity = Polarity(int(c.slot_polarity[slot]))
    return Claim(
        slot=slot,
        generation=generation,
        group=group,
        member=int(c.slot_member[slot]),
        task_id=int(c.group_task[group]),
        generator=int(c.slot_generator[slot]),
        polarity=int(polarity),
        seed=int(c.slot_seed[slot]) & (2**64 - 1),
        caption=caption_text(c, group, polarity),
    )


def holds(control: Control, process: int, claims: Sequence[Claim]) -> list[bool]:
    """Which claims this process still holds. The caller holds the mutex."""
    c = control.columns
    return [
        bool(
            c.slot_state[claim.slot] == SlotState.WRITING
            and c.slot_owner[claim.slot] == process
            and c.slot_generation[claim.slot] == claim.generation
        )
        for claim in claims
    ]


def commit(control: Control, process: int, claims: Sequence[Claim], checksums: Sequence[int]) -> list[bool]:
    """Makes written members READY; refuses and counts stale claims. At most CHUNK claims."""
    assert len(claims) <= CHUNK
    with control.transition(Operation.COMMIT) as journal:
        held = holds(control, process, claims)
        for claim, checksum, valid in zip(claims, checksums, held, strict=True):
            if valid:
                journal.set("slot_checksum", claim.slot, checksum)
                journal.add("generator_committed", claim.generator, 1)
                end_member(control, journal, claim.slot, SlotState.READY)
        _count_stale(journal, held)
    return held


def fail(control: Control, process: int, claims: Sequence[Claim], reason: str) -> list[bool]:
    """Gives members back after a failed render. At most CHUNK claims."""
    assert len(claims) <= CHUNK
    with control.transition(Operation.FAIL) as journal:
        held = holds(control, process, claims)
        for claim, valid in zip(claims, held, strict=True):
            if valid:
                put_text(control.columns.generator_reason[claim.generator], reason)
                retry_member(control, journal, claim.slot)
        _count_stale(journal, held)
    return held


def _count_stale(journal: Journal, held: Sequence[bool]) -> None:
    if not all(held):
        journal.add("total", int(Total.STALE), held.count(False))


def retry_member(control: Control, journal: Journal, slot: int) -> None:
    """A WRITING member without an image: WANTED again while retries are left and its generator is up."""
    c = control.columns
    if c.slot_retries[slot] >= control.spec.max_retries or c.generator_down[c.slot_generator[slot]]:
        fail_member(control, journal, slot)
        return
    journal.set("slot_state", slot, int(SlotState.WANTED))
    journal.set("slot_owner", slot, -1)
    journal.add("slot_retries", slot, 1)
    journal.add("total", int(Total.RETRIES), 1)


def fail_member(control: Control, journal: Journal, slot: int) -> None:
    journal.add("generator_failed", int(control.columns.slot_generator[slot]), 1)
    end_member(control, journal, slot, SlotState.FAILED)


def end_member(control: Control, journal: Journal, slot: int, state: SlotState) -> None:
    """Moves a pending member to READY or FAILED, and its group on when it was the last one."""
    c = control.columns
    group = int(c.slot_group[slot])
    journal.set("slot_state", slot, int(state))
    journal.set("slot_owner", slot, -1)
    if state is SlotState.READY:
        positive = c.slot_polarity[slot] == Polarity.POSITIVE
        journal.add("group_positives" if positive else "group_negatives", group, 1)
    journal.add("group_pending", group, -1)
    if c.group_pending[group] == 0:
        finish_group(control, journal, group)
