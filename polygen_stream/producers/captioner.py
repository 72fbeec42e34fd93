"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import closing, suppress

from polygen_stream.captions.banks import chosen_axes
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.captions.journal import JOURNAL, Entry, Journal, JournalState, journaled
from polygen_stream.captions.selection import Selection
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import curriculum_of
from polygen_stream.curriculum import ErrorDiffusion
from polygen_stream.errors import PolygenError
from polygen_stream.ledger import Ledger, Task
from polygen_stream.producers.failures import Failures
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.producers.pause import Pause
from polygen_stream.ring import Kind, Member, RingStats, WaitStopped
from polygen_stream.role import RoleContext, run_role


def main(context: RoleContext) -> None:
    context.ring.heartbeat("loading the caption source")
    with closing(caption_source(context.config.captions)) as source, Journal(context.run_dir / JOURNAL) as journal:
        journal.describe(source.provenance)
        with suppress(WaitStopped):
            _write(context, source, journal)
    context.ring.finish_opening()


def _write(context: RoleContext, source: CaptionSource, journal: Journal) -> None:
    """Hands tasks to the source while there is room for their pictures, and enters what comes back, in order."""
    config, ring = context.config, context.ring
    writing, target = config.captions, config.captions.target or sys.maxsize
    orders = _Orders(context, source, journal.state)
    selection = Selection(writing, source.concepts, config.seed)
    if journal.state.next_task:
        ring.heartbeat("reading the journal")
        selection.remember(journaled(context.run_dir / JOURNAL))
    failures, pause, opened = Failures(), Pause(context, source), journal.state.captions
    _catch_up(context, journal)
    while not context.stopping and opened < target:
        stats = ring.stats()
        began = time.monotonic()
        wanted = min(writing.batch, target - opened - source.pending)
        # A whole batch at once: a model that is run batch by batch must not be fed one by one. The bound keeps captions
        # close to the step they are written for, and a fast generator close to the slow ones.
        if wanted and _open_groups(stats) + source.pending <= writing.backlog - writing.batch:
            pause.over()
            for task, kind in orders.next(wanted, opened, stats):
                source.submit(task, kind is Kind.PAIR)
        elif not source.pending:
            pause.take()
            continue
        ring.heartbeat(f"writing {source.pending} captions")
        for result in source.collect():
            task, kind, carry = orders.done()
            entry = Entry(task, kind.name.lower(), _used(context, selection, task, result), carry)
            journal.write(entry)  # before the ring has it: whoever comes after a kill knows what was written
            failures.note(entry.result)
            _enter(context, entry)
            opened += isinstance(entry.result, Caption)
        ring.heartbeat("writing captions", busy_s=time.monotonic() - began)


class _Orders:
    """What the source is asked for, in the order of task ids: tasks, and which of them get a hard negative."""

    def __init__(self, context: RoleContext, source: CaptionSource, state: JournalState) -> None:
        config = context.config
        axes = chosen_axes(config.captions, source.axes)
        self._ledger = Ledger(
            config.seed, source.concepts, axes, len(config.generators.recipes), config.generators.positives
        )
        self._context, self._curriculum, self._lead = context, curriculum_of(config), LeadTime()
        self._pairs, self._next_task = ErrorDiffusion(state.carry), state.next_task
        self._under_way: deque[tuple[Task, Kind, float]] = deque()

    def next(self, count: int, opened: int, stats: RingStats) -> list[tuple[Task, Kind]]:
        """The next tasks, mixed for the step at which their pictures will be ready."""
        ahead = self._lead.steps(time.monotonic(), stats)
        found = []
        for _ in range(count):
            aim = _aim(self._context, stats.step, ahead, self._next_task, opened + len(self._under_way))
            kind = Kind.PAIR if self._pairs.take(self._curriculum.production_share(*aim), 1) else Kind.PLAIN
            task = self._ledger.task(self._next_task)
            self._under_way.append((task, kind, self._pairs.carry))
            found.append((task, kind))
            self._next_task += 1
        return found

    def done(self) -> tuple[Task, Kind, float]:
        """The oldest task under way, its kind, and what rounding had left over after it."""
        return self._under_way.popleft()


def _aim(context: RoleContext, step: int, ahead: float, task_id: int, opened: int) -> tuple[int, float]:
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


def _used(context: RoleContext, selection: Selection, task: Task, result: Caption | Dropped) -> Caption | Dropped:
    """The caption if the ring can hold it and the selection wants it."""
    if isinstance(result, Dropped):
        return result
    texts = [text for text in (result.text, result.negative) if text is not None]
    if max(len(text.encode()) for text in texts) > context.ring.spec.caption_bytes:
        return Dropped((*result.rejected, "too long for the ring"))
    refused = selection.decide(task.task_id, result.text)
    return result if refused is None else Dropped((*result.rejected, f"caption: {refused}"), result.text)


def _enter(context: RoleContext, entry: Entry) -> None:
    """Opens the task's group in the ring, or says that it has none."""
    config, ring, task, result = context.config, context.ring, entry.task, entry.result
    if isinstance(result, Dropped):
        ring.skip_task(task.task_id, config.ring.open_timeout_s, stop=lambda: context.stopping)
        return
    kind = Kind[entry.kind.upper()]
    members = _members(task, kind, config.generators.negatives)
    ring.open_group(
        task.task_id, kind, result.text, result.negative, members,
        config.ring.open_timeout_s, stop=lambda: context.stopping,
    )  # fmt: skip


def _catch_up(context: RoleContext, journal: Journal) -> None:
    """Enters the tasks that a captioner before this one wrote and the ring has not got, without a language model.

    After a kill that is the last task at most.
    """
    config, state, stats = context.config, journal.state, context.ring.stats()
    # A ring in throughput mode is not told of tasks without a group, one in deterministic mode counts them.
    told = context.ring.spec.deterministic
    missing = state.captions + (state.dropped if told else 0) - stats.groups_opened - stats.skipped
    if missing < 0:
        raise PolygenError(
            f"the ring has {stats.groups_opened} captions and {context.run_dir / JOURNAL} has {state.captions}: "
            "the journal is not this run's, or lost lines"
        )
    if not missing:
        return
    context.ring.heartbeat(f"opening {missing} captions of the journal again")
    entries = journaled(context.run_dir / JOURNAL)
    behind = deque((e for e in entries if told or isinstance(e.result, Caption)), maxlen=missing)
    pause = Pause(context)
    for entry in behind:
        while _open_groups(context.ring.stats()) >= config.captions.backlog:
            if context.stopping:
                return
            pause.take()
        _enter(context, entry)


def _open_groups(stats: RingStats) -> int:
    """Captions that wait for pictures."""
    return sum(counts["open"] for counts in stats.groups.values())


def _members(task: Task, kind: Kind, negatives: int) -> list[Member]:
    """The group's images: n+ positives, then the twins of the first `negatives` of them."""
    twins = list(zip(task.generators, task.image_seeds, strict=True))
    members = [Member(generator, 0, seed) for generator, seed in twins]
    if kind is Kind.PAIR:
        members += [Member(generator, 1, seed) for generator, seed in twins[:negatives]]
    return members


if __name__ == "__main__":
    run_role(main, "captioner")
