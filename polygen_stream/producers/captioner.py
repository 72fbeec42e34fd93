"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import time
from collections import deque

from polygen_stream.captions.banks import chosen_axes
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import JOURNAL, Entry, Journal, journaled
from polygen_stream.captions.selection import Selection
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import curriculum_of
from polygen_stream.curriculum import ErrorDiffusion
from polygen_stream.errors import PolygenError
from polygen_stream.ledger import Ledger, Task
from polygen_stream.producers.failures import Failures
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import Kind, Member, RingStats, WaitStopped
from polygen_stream.role import RoleContext, run_role

POLL_S = 0.05


def main(context: RoleContext) -> None:
    config, ring = context.config, context.ring
    ring.heartbeat("loading the caption source")
    source = caption_source(config.captions)
    ledger = Ledger(
        config.seed,
        source.concepts,
        chosen_axes(config.captions, source.axes),
        len(config.generators.recipes),
        config.generators.positives,
    )
    curriculum = curriculum_of(config)
    lead, failures = LeadTime(), Failures()
    target = config.captions.target or None
    writing = config.captions
    with Journal(context.run_dir / JOURNAL) as journal:
        journal.describe(source.provenance)
        selection = Selection(writing, source.concepts, config.seed)
        if journal.state.next_task:
            ring.heartbeat("reading the journal")
            selection.remember(journaled(context.run_dir / JOURNAL))
        pairs = ErrorDiffusion(journal.state.carry)
        task_id, opened = journal.state.next_task, journal.state.captions
        try:
            _catch_up(context, journal)
            while not context.stopping and (target is None or opened < target):
                stats = _wait_for_room(context, writing.backlog - writing.batch)
                if stats is None:
                    break
                began = time.monotonic()
                step, ahead = stats.step, lead.steps(time.monotonic(), stats)
                tasks, kinds, carries = [], [], []
                for i in range(writing.batch if target is None else min(writing.batch, target - opened)):
                    share = curriculum.production_share(*_aim(context, step, ahead, task_id, opened + i))
                    kinds.append(Kind.PAIR if pairs.take(share, 1) else Kind.PLAIN)
                    carries.append(pairs.carry)
                    tasks.append(ledger.task(task_id))
                    task_id += 1
                ring.heartbeat(f"writing {len(tasks)} captions")
                written = source.write(tasks, [kind is Kind.PAIR for kind in kinds])
                for task, kind, carry, result in zip(tasks, kinds, carries, written, strict=True):
                    entry = Entry(task, kind.name.lower(), _used(context, selection, task, result), carry)
                    journal.write(entry)  # before the ring has it: whoever comes after a kill knows what was written
                    failures.note(entry.result)
                    _enter(context, entry)
                    opened += isinstance(entry.result, Caption)
                ring.heartbeat("writing captions", busy_s=time.monotonic() - began)
        except WaitStopped:
            pass
    ring.finish_opening()


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
    for entry in behind:
        if _wait_for_room(context, config.captions.backlog - 1) is None:
            return
        _enter(context, entry)


def _wait_for_room(context: RoleContext, most: int) -> RingStats | None:
    """The ring's state once at most `most` groups are open; None when the run stops first.

    The bound keeps captions close to the step they are written for, and a fast generator close to the slow ones.
    """
    ring, began, waited = context.ring, time.monotonic(), 0.0
    while not context.stopping:
        stats = ring.stats()
        if sum(counts["open"] for counts in stats.groups.values()) <= most:
            return stats
        time.sleep(POLL_S)
        ring.heartbeat("waiting for the renderers", waited_s=time.monotonic() - began - waited)
        waited = time.monotonic() - began
    return None


def _members(task: Task, kind: Kind, negatives: int) -> list[Member]:
    """The group's images: n+ positives, then the twins of the first `negatives` of them."""
    twins = list(zip(task.generators, task.image_seeds, strict=True))
    members = [Member(generator, 0, seed) for generator, seed in twins]
    if kind is Kind.PAIR:
        members += [Member(generator, 1, seed) for generator, seed in twins[:negatives]]
    return members


if __name__ == "__main__":
    run_role(main, "captioner")
