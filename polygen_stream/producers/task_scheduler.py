"""What the captioner asks its source for: tasks in the order of their ids, and which of them get a hard negative."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from polygen_stream.captions.banks.registry import chosen_axes
from polygen_stream.captions.base import CaptionSource
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import Kind, Member, RingStats
from polygen_stream.roles.role import RoleContext
from polygen_stream.schedule.curriculum import ErrorDiffusion
from polygen_stream.schedule.ledger import CaptionTask, Ledger


@dataclass
class TaskCursor:
    """How far captions have come: the next task, groups opened so far, and the rounding of the mix of kinds.

    Of N nodes, node k takes the tasks k, k + N, k + 2 N and so on.
    """

    task_id: int
    opened: int = 0
    pairs: ErrorDiffusion = field(default_factory=ErrorDiffusion)


class TaskScheduler:
    """Takes a run on from where it has come.

    Args:
        clock: seconds of any clock that only goes forward, by which the lead time is measured.

    Raises:
        UserError: captions.axes has one that the source does not know.
    """

    def __init__(
        self,
        context: RoleContext,
        source: CaptionSource,
        begun: TaskCursor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = context.config
        axes = chosen_axes(config.captions, source.axes)
        self._ledger = Ledger(
            config.seed, source.concepts, axes, len(config.generators.recipes), config.generators.positives
        )
        self._context, self._begun, self._clock = context, begun, clock
        self._curriculum, self._lead = curriculum_of(config), LeadTime()
        self._under_way: deque[tuple[CaptionTask, Kind]] = deque()

    def wanted(self, stats: RingStats, pending: int) -> int:
        """How many tasks to hand to the source now, while `pending` are with it.

        A whole batch at once: a model that is run batch by batch must not be fed one by one. The bound keeps captions
        close to the step they are written for, and a fast generator close to the slow ones.
        """
        config = self._context.config
        room = open_groups(stats) + pending <= config.captions.backlog - config.captions.batch
        return min(config.captions.batch, target_of(config) - self._begun.opened - pending) if room else 0

    def next(self, count: int, stats: RingStats) -> list[tuple[CaptionTask, Kind]]:
        """The next tasks, mixed for the step at which their pictures will be ready."""
        begun, ahead = self._begun, self._lead.steps(self._clock(), stats)
        found = []
        for _ in range(count):
            opened = begun.opened + len(self._under_way)
            share = self._curriculum.production_share(*aim(self._context, stats.step, ahead, begun.task_id, opened))
            found.append((self._ledger.task(begun.task_id), Kind.PAIR if begun.pairs.take(share, 1) else Kind.PLAIN))
            self._under_way.append(found[-1])
            begun.task_id += self._context.config.launch.nodes
        return found

    def done(self) -> tuple[CaptionTask, Kind]:
        """The oldest task under way, which is no longer."""
        return self._under_way.popleft()


def target_of(config: RunConfig) -> int:
    """Groups to open."""
    return config.captions.target or sys.maxsize


def open_groups(stats: RingStats) -> int:
    """Captions that wait for pictures."""
    return sum(counts["open"] for counts in stats.groups.values())


def members_of(task: CaptionTask, kind: Kind, negatives: int) -> list[Member]:
    """The group's images: n+ positives, then the twins of the first `negatives` of them."""
    twins = list(zip(task.generators, task.image_seeds, strict=True))
    members = [Member(generator, 0, seed) for generator, seed in twins]
    if kind is Kind.PAIR:
        members += [Member(generator, 1, seed) for generator, seed in twins[:negatives]]
    return members


def aim(context: RoleContext, step: int, ahead: float, task_id: int, opened: int) -> tuple[int, float]:
    """The training step that a new group is made for, as the trainer's step and the steps from there on."""
    config, spec = context.config, context.ring.spec
    target = config.captions.target or None
    if spec.deterministic:
        # What a task is must not depend on when it is written: the window moves at a fixed pace.
        return int(task_id / (spec.inserts_per_step or target / config.train.steps)), 0.0
    if target is not None:
        # Producers that outrun the trainer will have stopped when the last steps ask for hard negatives: a
        # group that spends the k-th part of the budget is made for the k-th part of the run, or a later one.
        ahead = max(ahead, config.train.steps * opened / target - step)
    return step, ahead
