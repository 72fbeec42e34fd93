"""What is true of the columns between any two transitions. Checked at recovery, by tests and by `inspect`."""

from __future__ import annotations

import numpy as np

from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.layout import PROCESSES, RingColumns, Total
from polygen_stream.ring.pixels import Pixels
from polygen_stream.ring.records import GroupState, Polarity, ProcessState, SlotState
from polygen_stream.ring.spec import RingSpec


def broken_invariants(c: RingColumns, spec: RingSpec) -> list[str]:
    """One line for each invariant that does not hold. The caller holds the mutex."""
    try:
        return _broken_invariants(c, spec)
    except (IndexError, ValueError) as error:  # the check itself was led astray
        return [f"a column points outside the ring ({error})"]


def _broken_invariants(c: RingColumns, spec: RingSpec) -> list[str]:
    problems: list[str] = []

    def claim(what: str, holds: np.ndarray | bool) -> None:
        if not np.all(holds):
            where = np.flatnonzero(~np.asarray(holds))[:4].tolist() if np.ndim(holds) else []
            problems.append(f"{what} {where}" if where else what)

    free = c.slot_state == SlotState.FREE
    claim("slot is FREE but has a group, or has none and is not FREE", free == (c.slot_group == -1))
    claim("slot has an image of an earlier attempt and is not FREE", free | (c.slot_kept == 0))
    used = np.flatnonzero(~free)
    slots_of = c.group_slot.reshape(spec.groups, spec.members)
    pointed = slots_of[c.slot_group[used], c.slot_member[used]]
    claim("slot and group table disagree at slot", pointed == used)
    writing = c.slot_state == SlotState.WRITING
    claim("slot is WRITING without an owner, or owned without WRITING", writing == (c.slot_owner >= 0))
    owners = c.slot_owner[writing]
    claim("slot is owned by a process that is not LIVE", c.process_state[owners] == ProcessState.LIVE)

    def per_group(selected: np.ndarray) -> np.ndarray:
        return np.bincount(c.slot_group[selected], minlength=spec.groups)

    live = c.group_state != GroupState.FREE
    positive = c.slot_polarity == Polarity.POSITIVE
    ready = c.slot_state == SlotState.READY
    claim("group does not own its number of slots", per_group(used) == np.where(live, c.group_members, 0))
    pending = per_group((c.slot_state == SlotState.WANTED) | writing)
    claim("group's pending count is wrong", (pending == c.group_pending) | ~live)
    claim("group's READY positives are miscounted", (per_group(ready & positive) == c.group_positives) | ~live)
    claim("group's READY negatives are miscounted", (per_group(ready & ~positive) == c.group_negatives) | ~live)
    claim(
        "group is OPEN without pending members, or not OPEN with some",
        (pending > 0) == (c.group_state == GroupState.OPEN),
    )
    complete = c.group_state == GroupState.COMPLETE
    claim("group is COMPLETE without a READY positive", ~complete | (c.group_positives > 0))
    claim("group is COMPLETE and in no round of draws", ~complete | (c.group_round >= 0))

    leases = c.lease.reshape(PROCESSES, spec.groups)
    claim("group's lease count is not the sum over processes", leases.sum(axis=0) == c.group_leased)
    claim(
        "a process that is not LIVE holds leases",
        ~leases.any(axis=1) | (c.process_state == ProcessState.LIVE),
    )
    claim("group is leased but not COMPLETE", (c.group_leased == 0) | complete)

    claim("group is pinned but not there", (c.group_pinned == 0) | live & (c.group_state != GroupState.SKIPPED))
    places = np.flatnonzero(c.board_step >= 0)
    claim("a step is on the draw board twice", np.unique(c.board_step[places]).size == places.size)
    for place in places.tolist():
        position = np.arange(int(c.board_plain[place] + c.board_negative[place] + c.board_pair[place]))
        left = (int(c.board_received[place]) >> position % int(c.board_world[place])) & 1 == 0
        rows = c.board_group[place, position[left]]
        claim(
            f"a slice of step {int(c.board_step[place])} on the draw board is not leased by its leader",
            leases[int(c.board_leader[place]), rows] > 0,
        )

    t = c.total
    opened = int((c.group_state == GroupState.OPEN).sum())
    claim(
        "opened != completed + dropped + open",
        t[Total.OPENED] == t[Total.COMPLETED] + t[Total.DROPPED] + opened,
    )
    claim(
        "completed - evicted is not the COMPLETE groups",
        t[Total.COMPLETED] - t[Total.EVICTED] == int(complete.sum()),
    )
    shown = np.bincount(c.slot_generator[ready], minlength=len(spec.generators))
    claim("generator has more READY slots than commits", shown <= c.generator_committed)
    return problems


def damaged_slots(c: RingColumns, pixels: Pixels) -> list[int]:
    """READY slots whose pixels are not those that were committed. The caller holds the mutex."""
    ready = np.flatnonzero(c.slot_state == SlotState.READY)
    return [slot for slot in ready.tolist() if checksums(pixels.read(np.array([slot])))[0] != c.slot_checksum[slot]]
