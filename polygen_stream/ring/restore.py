"""A ring from a snapshot: what the old run had finished goes on, what its processes held starts again.

Kept: pictures that were stored, pins, counters, limits, draws so far, ages, generations. Dropped: the process table,
whose pids mean nothing now, and with it owners, leases, waits and batches on the draw board; what only processes of the
old run had promised (production is over, a generator is down). Limits whose first value in the new spec is
another get that; the others stay as they were last set. Members that were being written, and READY ones whose picture
was not stored, are WANTED again: a picture is a function of its task, so it is rendered a second time. A ring with a
file has the pictures there, those that were rendered after the snapshot included (take_over.py).
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import Damaged
from polygen_stream.ring.control import Control
from polygen_stream.ring.errors import RingMismatch
from polygen_stream.ring.layout import RingColumns, Total
from polygen_stream.ring.limits import Limits
from polygen_stream.ring.pixel_file import PixelFile
from polygen_stream.ring.records import GroupState, Kind, Polarity, SlotState
from polygen_stream.ring.ring import SUPERVISOR_LOCK_TIMEOUT_S, Ring
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.state import copied_columns
from polygen_stream.ring.take_over import Progress, TakenOver, ignore, images_in_place, keep_images, read_stored

# Of the spec: about what is produced from now on, and where its pictures lie.
FREE = {"max_retries", "max_backlog", "expected_groups", "in_flight", "storage", "feedback_half_life"}


def restore_snapshot(
    path: Path, spec: RingSpec, lock_timeout_s: float = SUPERVISOR_LOCK_TIMEOUT_S, progress: Progress = ignore
) -> Ring:
    """Allocate a ring and fill it from a snapshot; its invariants, pictures and captions are checked.

    progress: as in take_over.read_stored, for a ring with a file.

    Raises Damaged for an unusable file, RingMismatch for a spec that makes another ring than the snapshot's, UserError
    for limits that would stop both sides and for too little memory.
    """
    file = SnapshotFile(path)
    limits = _changed_limits(path, file.spec, spec)
    ring = Ring.allocate(spec, lock_timeout_s)
    try:
        c = ring._control.columns  # no other process has the descriptor yet: neither mutex nor journal is needed
        for column in copied_columns(spec):
            getattr(c, column.name)[...] = getattr(file.state.columns, column.name)
        _forget_processes(c)
        for slots, pictures in file.pictures():
            damaged = slots[ring._control.pixels.write(slots, pictures) != c.slot_checksum[slots]]
            if damaged.size:
                raise Damaged(
                    f"ring snapshot {path} is damaged: pixels of slot {damaged[0]} are damaged; choose an older one"
                )
        if spec.storage:
            ring.taken_over = _take_over(ring._control, progress)
        else:
            _want_again(c, spec, stored=file.picture_slot)
        problems = ring.check(images=False)  # they were compared above
        if problems:
            raise Damaged(f"ring snapshot {path} is damaged: {problems[0]}; choose an older one")
        if limits:
            ring.set_limits(**limits)
    except BaseException:
        ring.close()
        raise
    return ring


def _changed_limits(path: Path, theirs: RingSpec, ours: RingSpec) -> dict[str, float]:
    """Return the limits that have another value in our spec; refuse a spec that differs in anything that may not."""
    differ = {
        field.name: (getattr(theirs, field.name), getattr(ours, field.name))
        for field in fields(RingSpec)
        if getattr(theirs, field.name) != getattr(ours, field.name)
    }
    limits = set() if ours.deterministic else {field.name for field in fields(Limits)}
    for name, (before, now) in differ.items():
        if name not in limits | FREE:
            raise RingMismatch(
                f"ring snapshot {path} was made with {name} = {before}, this run has {now}; "
                "resume with the config of the run that wrote it"
            )
    return {name: now for name, (_, now) in differ.items() if name in limits}


def _forget_processes(c: RingColumns) -> None:
    for name in [name for name in vars(c) if name.startswith(("process_", "board_"))]:
        getattr(c, name)[...] = 0
    c.board_step[:] = -1
    c.slot_owner[:] = -1
    c.slot_kept[:] = 0  # in the file of that run, which this ring need not have
    c.lease[:] = 0
    c.group_leased[:] = 0
    c.generator_down[:] = 0
    for total in (Total.FINISHED, Total.STARVED_PAIR, Total.STARVED_ANY, Total.HELD_BACK):
        c.total[total] = 0


def _take_over(control: Control, progress: Progress) -> TakenOver:
    """Keep the images that the file has of the table, and those of tasks that are to come."""
    c = control.columns
    assert isinstance(control.pixels, PixelFile), "a ring with RingSpec.storage has a file"
    stored = read_stored(control.pixels, progress)
    ready = np.flatnonzero((c.slot_state == SlotState.READY) & images_in_place(stored, c))
    c.slot_checksum[ready] = stored.records["checksum"][ready]
    _want_again(c, control.spec, ready)
    keep_images(control, stored)
    return stored.result


def _want_again(c: RingColumns, spec: RingSpec, stored: np.ndarray) -> None:
    """Make members without a picture WANTED and their groups OPEN: the reverse of finish_groups."""
    lost = c.slot_state == SlotState.READY
    lost[stored] = False
    c.slot_retries[lost] = 0
    c.slot_state[lost | (c.slot_state == SlotState.WRITING)] = SlotState.WANTED

    def per_group(selected: np.ndarray) -> np.ndarray:
        return np.bincount(c.slot_group[selected], minlength=spec.groups)

    positive = c.slot_polarity == Polarity.POSITIVE
    ready = c.slot_state == SlotState.READY
    c.group_pending[:] = per_group(c.slot_state == SlotState.WANTED)
    c.group_positives[:] = per_group(ready & positive)
    c.group_negatives[:] = per_group(ready & ~positive)
    reopened = (c.group_state == GroupState.COMPLETE) & (c.group_pending > 0)
    degraded = reopened & (per_group(c.slot_state == SlotState.FAILED) > 0)
    demoted = reopened & (c.group_kind == Kind.PLAIN) & (per_group((c.slot_group >= 0) & ~positive) > 0)
    c.group_state[reopened] = GroupState.OPEN
    c.group_kind[demoted] = Kind.PAIR
    for total, groups in ((Total.COMPLETED, reopened), (Total.DEGRADED, degraded), (Total.DEMOTED, demoted)):
        c.total[total] -= np.count_nonzero(groups)
