"""What a deterministic ring knows of task ids: which may be opened now, and which have no group (window.py)."""

from __future__ import annotations

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import Total
from polygen_stream.ring.records import GroupState
from polygen_stream.ring.undo_journal import UndoJournal
from polygen_stream.ring.window import TaskWindow


def admits_task(control: Control, task: int) -> bool:
    """Whether there will be room for this task and for all that come before it. The caller holds the mutex.

    Raises PolygenError for a task that was opened or skipped before, or that no step will ask for any more.
    """
    c, window = control.columns, TaskWindow.of(control.spec)
    step, known = control.total(Total.NEXT_STEP), control.total(Total.KNOWN)
    if ((c.group_task == task) & (c.group_state != GroupState.FREE)).any():
        raise PolygenError(f"task {task} is in the ring already; a deterministic ring takes each task id once")
    first = window.floor(step, max(known, task + 1))
    if task < first:
        raise PolygenError(
            f"task {task} comes too late: step {step} and those after it draw from task {first} on; "
            "start the captioner at an earlier task"
        )
    return window.may_open(task, step, known)


def note_known(control: Control, journal: UndoJournal, task: int) -> None:
    """Every task id is below KNOWN once production has finished."""
    journal.set("total", int(Total.KNOWN), max(task + 1, control.total(Total.KNOWN)))


def mark_skipped(journal: UndoJournal, row: int) -> None:
    """Makes a FREE row the placeholder of its task, which has no group."""
    journal.set("group_state", row, int(GroupState.SKIPPED))
    for name in ("group_members", "group_pending", "group_positives", "group_negatives"):
        journal.set(name, row, 0)
