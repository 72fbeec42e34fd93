"""Deterministic mode: which task ids a step draws from, as arithmetic on the step alone.

    due(s)    = min_fill + floor(s x inserts_per_step)     tasks 0 .. due(s) - 1 are asked for by step s
    window(s) = the newest `window` of them: [max(0, due(s) - window), due(s))

`due` grows by a fixed number of tasks per step, where throughput mode takes whatever is ready; a group stays in the
window for window / inserts_per_step steps and is then never drawn again. When production has ended with N tasks,
due(s) is min(due(s), N): the last window stands still.

A task of the window that has no group (its caption was rejected, or all of its positives failed) is left out of the
draw and keeps its place: the window is a range of task ids, not a number of groups. Where too few are left, picking.py
lets the draw look further ahead.

Room. A ring that holds `capacity` groups, whatever their kind, takes task t only while t < floor + capacity. `floor` is
the first task that a step from now on may still ask for. Production may turn out to have ended with the tasks known so
far, so floor is computed as if it had: floor = max(0, min(due(s), tasks known) - window). Everything below the floor
may be evicted, nothing above it ever is. With capacity >= window each task of the window can therefore be opened, in
whatever order the tasks come: back-pressure cannot stop a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from polygen_stream.base.errors import UserError
from polygen_stream.ring.spec import RingSpec


@dataclass(frozen=True)
class TaskWindow:
    """Windows of a deterministic ring. Steps and task ids count from 0.

    Attributes:
        min_fill: tasks that step 0 asks for.
        window: width of the window in tasks.
        inserts_per_step: tasks by which it moves on per step.
        capacity: groups the ring holds, whatever their kind.
    """

    min_fill: int
    window: int
    inserts_per_step: float
    capacity: int

    @classmethod
    def of(cls, spec: RingSpec) -> TaskWindow:
        """Return the windows of a ring with this spec."""
        return cls(spec.min_fill, spec.window, spec.inserts_per_step, capacity(spec))

    def due(self, step: int) -> int:
        """Return the number of tasks that must have ended (complete, dropped or skipped) before `step` is drawn."""
        return self.min_fill + floor(step * self.inserts_per_step)

    def tasks(self, step: int, total: int | None) -> range:
        """Return the task ids that `step` draws from.

        Args:
            step: training step.
            total: number of tasks of the run, None while production goes on.
        """
        due = self.due(step) if total is None else min(self.due(step), total)
        return range(max(0, due - self.window), due)

    def floor(self, step: int, known: int) -> int:
        """Return the first task that may still be asked for, with the tasks below `known` opened and `step` next."""
        return self.tasks(step, known).start

    def may_open(self, task: int, step: int, known: int) -> bool:
        """Return whether a ring that has opened the tasks below `known` has room for this one before `step`."""
        return task < self.floor(step, max(known, task + 1)) + self.capacity


def capacity(spec: RingSpec) -> int:
    """Return the number of groups that fit the ring if each has the most images a group may have."""
    return min(spec.slots // spec.members, spec.groups)


def check_window(spec: RingSpec) -> None:
    """Refuse a deterministic ring that must deadlock or whose rules contradict each other.

    Raises:
        UserError: which values, and the arithmetic.
    """
    for name in ("samples_per_insert", "error_buffer", "max_times_sampled", "max_age"):
        if getattr(spec, name):
            raise UserError(
                f"ring.{name} is {getattr(spec, name):g}, but in deterministic mode reuse follows from ring.window and "
                f"inserts_per_step alone; set ring.{name} = 0"
            )
    if spec.window < spec.min_fill:
        raise UserError(
            f"ring.window is {spec.window} tasks, less than ring.min_fill = {spec.min_fill}: the first step would wait "
            "for more than its window holds; raise ring.window or lower ring.min_fill"
        )
    if spec.window > capacity(spec):
        raise UserError(
            f"ring.window = {spec.window} tasks x up to {spec.members} images = {spec.window * spec.members} images in "
            f"at most {spec.groups} groups, but the ring has {spec.slots} slots: a step would wait for groups that "
            f"never fit; lower ring.window to {capacity(spec)} or raise ring.slots"
        )
