"""The task scheduler: which caption tasks the source gets next, in the order of their ids, and which are pairs."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from polygen_stream.captions.banks.registry import chosen_axes
from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import Kind, Member, RingStats
from polygen_stream.roles.role import RoleContext
from polygen_stream.schedule.choice import Choice
from polygen_stream.schedule.curriculum import ErrorDiffusion
from polygen_stream.schedule.ledger import CaptionTask, Ledger
from polygen_stream.synthesis.choice import TaskChooser
from polygen_stream.synthesis.rows import FeedbackRows


@dataclass
class TaskCursor:
    """How far a run's captions have come.

    Args:
        next_task: id of the next task. Of N nodes, node k takes the tasks k, k + N, k + 2 N and so on.
        opened: number of groups opened so far.
        rounding: what rounding the mix of kinds to whole groups has left over.
    """

    next_task: int
    opened: int = 0
    rounding: ErrorDiffusion = field(default_factory=ErrorDiffusion)


class ScheduledTask(NamedTuple):
    """A task that the source gets, the kind of its group, and why a policy chose it if one did."""

    task: CaptionTask
    kind: Kind
    choice: Choice | None


class TaskScheduler:
    """Gives out tasks while there is room for their images, mixed as the curriculum asks.

    Args:
        context: config and ring.
        source: its concepts and axes are what the ledger draws from.
        cursor: where to continue; the scheduler advances it.
        clock: seconds of any clock that only goes forward, by which the lead time is measured.

    Raises:
        UserError: captions.axes has one that the source does not know, or the policy cannot be loaded.
    """

    def __init__(
        self,
        context: RoleContext,
        source: CaptionSource,
        cursor: TaskCursor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = context.config
        axes = chosen_axes(config.captions, source.axes)
        ledger = Ledger(config.seed, source.concepts, axes, len(config.generators.recipes), config.generators.positives)
        rows = FeedbackRows.of_source(axes, source.concepts)
        context.ring.name_feedback_rows(list(rows.axes), list(rows.concepts))
        self._chooser = TaskChooser(config, ledger, rows)
        self._context, self._cursor, self._clock = context, cursor, clock
        self._curriculum, self._lead_time = curriculum_of(config), LeadTime()
        self._in_flight: deque[ScheduledTask] = deque()

    def count_wanted(self, stats: RingStats, pending: int) -> int:
        """Return how many tasks to submit to the source now, while `pending` are with it.

        Either a whole batch or none: a model that runs batch by batch must not be fed one by one. The bound on open
        groups keeps captions close to the step they are written for, and a fast generator close to the slow ones.
        """
        captions = self._context.config.captions
        if count_open_groups(stats) + pending > captions.backlog - captions.batch:
            return 0
        return min(captions.batch, target_groups(self._context.config) - self._cursor.opened - pending)

    def next_tasks(self, count: int, stats: RingStats) -> list[ScheduledTask]:
        """Return the next tasks that the policy wants, in the mix of the step at which their images will be ready."""
        ring = self._context.ring
        weights = self._chooser.update(ring.read_feedback())
        ring.set_feedback_weights(weights.axes, weights.concepts, weights.generators)
        cursor, lead_steps = self._cursor, self._lead_time.steps(self._clock(), stats)
        tasks = []
        for _ in range(count):
            opened = cursor.opened + len(self._in_flight)
            share = self._curriculum.production_share(
                *target_step(self._context, stats.step, lead_steps, cursor.next_task, opened)
            )
            kind = Kind.PAIR if cursor.rounding.take(share, 1) else Kind.PLAIN
            task, choice, cursor.next_task = self._chooser.next(cursor.next_task)
            tasks.append(ScheduledTask(task, kind, choice))
            self._in_flight.append(tasks[-1])
        return tasks

    def finish_oldest(self) -> ScheduledTask:
        """Remove and return the oldest task in flight: the source returns results in the order of submission."""
        return self._in_flight.popleft()


def target_groups(config: RunConfig) -> int:
    """Return the number of groups to open in this run."""
    return config.captions.target or sys.maxsize


def count_open_groups(stats: RingStats) -> int:
    """Return the number of captions that wait for images."""
    return sum(counts["open"] for counts in stats.groups.values())


def group_members(task: CaptionTask, kind: Kind, negatives: int) -> list[Member]:
    """Return the images that a group asks for: n+ positives, then the twins of the first `negatives` of them."""
    positives = list(zip(task.generators, task.image_seeds, strict=True))
    members = [Member(generator, 0, seed) for generator, seed in positives]
    if kind is Kind.PAIR:
        members += [Member(generator, 1, seed) for generator, seed in positives[:negatives]]
    return members


def target_step(context: RoleContext, step: int, lead_steps: float, task_id: int, opened: int) -> tuple[int, float]:
    """Return the training step that a new group is produced for, as a step and the lead from there on.

    Args:
        context: config and ring.
        step: of the trainer.
        lead_steps: lead time of production, in training steps.
        task_id: of the group.
        opened: number of groups opened before it.
    """
    config, spec = context.config, context.ring.spec
    target = config.captions.target or None
    if spec.deterministic:
        # A task must not depend on when it is written: the window moves at a fixed pace. Without inserts_per_step the
        # config has a target.
        per_step = spec.inserts_per_step or target_groups(config) / config.train.steps
        return int(task_id / per_step), 0.0
    if target is not None:
        # Producers that are faster than the trainer stop before the last steps ask for hard negatives: a group that
        # uses the k-th part of the target is produced for the k-th part of the run, or a later one.
        lead_steps = max(lead_steps, config.train.steps * opened / target - step)
    return step, lead_steps
