"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from polygen_stream.captions.banks import chosen_axes
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import JOURNAL, Entry, Journal, read_journal
from polygen_stream.captions.selection import Selection
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.curriculum import ErrorDiffusion
from polygen_stream.ledger import Ledger, Task
from polygen_stream.producers.failures import Failures
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import GeneratorsDown, Kind, Member, RingStats, WaitStopped
from polygen_stream.role import RoleContext, run_role

POLL_S = 0.05


def main(context: RoleContext) -> None:
    config, ring = context.config, context.ring
    file = context.run_dir / JOURNAL
    journal = Journal(file)
    try:
        begun = _go_on(context, read_journal(file))
        if begun is not None and not _over(config, begun.opened):
            _write(context, begun, journal)
    finally:
        journal.close()
    if not context.stopping:
        ring.finish_opening()


@dataclass
class Begun:
    """How far captions have come: the next task, groups opened so far, and the rounding of the mix of kinds."""

    task_id: int = 0
    opened: int = 0
    pairs: ErrorDiffusion = field(default_factory=ErrorDiffusion)


def _go_on(context: RoleContext, entries: Iterable[Entry]) -> Begun | None:
    """Opens, in order, what an earlier captioner wrote and the ring did not get or has lost; None: the run stops."""
    config, ring = context.config, context.ring
    known, begun, curriculum = ring.stats().known, Begun(), curriculum_of(config)
    for entry in entries:
        if entry.task.task_id >= known and (
            _wait_for_room(context, config.captions.backlog - 1) is None or not _open(context, entry)
        ):
            return None
        if ring.spec.deterministic:
            # What a task is must not depend on where a run was interrupted. In throughput mode it depends on the
            # pace of everybody anyway, and what rounding left over is less than one caption.
            share = curriculum.production_share(*_aim(context, 0, 0.0, entry.task.task_id, begun.opened))
            begun.pairs.take(share, 1)
        begun.task_id = entry.task.task_id + 1
        begun.opened += isinstance(entry.outcome, Caption)
    return begun


def _write(context: RoleContext, begun: Begun, journal: Journal) -> None:
    """Writes captions and opens their groups until there are enough."""
    config, ring = context.config, context.ring
    ring.heartbeat("loading the caption source")
    source = caption_source(config.captions)
    journal.describe(source.provenance)
    selection = Selection(config.captions, source.concepts, config.seed)
    selection.remember(read_journal(context.run_dir / JOURNAL))
    ledger = Ledger(
        config.seed,
        source.concepts,
        chosen_axes(config.captions, source.axes),
        len(config.generators.recipes),
        config.generators.positives,
    )
    curriculum, lead, failures = curriculum_of(config), LeadTime(), Failures()
    target, writing = config.captions.target or None, config.captions
    while not context.stopping and not _over(config, begun.opened):
        stats = _wait_for_room(context, writing.backlog - writing.batch)
        if stats is None:
            return
        began = time.monotonic()
        step, ahead = stats.step, lead.steps(time.monotonic(), stats)
        tasks, kinds = [], []
        for i in range(writing.batch if target is None else min(writing.batch, target - begun.opened)):
            share = curriculum.production_share(*_aim(context, step, ahead, begun.task_id, begun.opened + i))
            kinds.append(Kind.PAIR if begun.pairs.take(share, 1) else Kind.PLAIN)
            tasks.append(ledger.task(begun.task_id))
            begun.task_id += 1
        ring.heartbeat(f"writing {len(tasks)} captions")
        written = source.write(tasks, [kind is Kind.PAIR for kind in kinds])
        entries = [
            Entry(task, kind is Kind.PAIR, selection.used(task.task_id, _fitting(caption, ring.spec.caption_bytes)))
            for task, kind, caption in zip(tasks, kinds, written, strict=True)
        ]
        journal.write(entries)
        for entry in entries:
            failures.note(entry.outcome)
            if not _open(context, entry):
                return
            begun.opened += isinstance(entry.outcome, Caption)
        ring.heartbeat("writing captions", busy_s=time.monotonic() - began)


def _over(config: RunConfig, opened: int) -> bool:
    return 0 < config.captions.target <= opened


def _fitting(caption: Caption | Dropped, most: int) -> Caption | Dropped:
    """The caption, or why it cannot go into the ring: nothing is ever cut."""
    if isinstance(caption, Caption) and any(
        len(text.encode()) > most for text in (caption.text, caption.negative) if text is not None
    ):
        return Dropped((*caption.rejected, "too long for the ring"))
    return caption


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


def _open(context: RoleContext, entry: Entry) -> bool:
    """Opens the task's group, or skips the task; False when the run stops first."""
    config, ring, task = context.config, context.ring, entry.task
    waiting = (config.ring.open_timeout_s, lambda: context.stopping)
    try:
        if isinstance(entry.outcome, Dropped):
            ring.skip_task(task.task_id, *waiting)
            return True
        kind = Kind.PAIR if entry.pair else Kind.PLAIN
        members = _members(task, kind, config.generators.negatives)
        try:
            ring.open_group(task.task_id, kind, entry.outcome.text, entry.outcome.negative, members, *waiting)
        except GeneratorsDown:
            ring.skip_task(task.task_id, *waiting)
    except WaitStopped:
        return False
    return True


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
