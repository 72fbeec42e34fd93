"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from polygen_stream.captions.banks import chosen_axes
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import curriculum_of
from polygen_stream.curriculum import ErrorDiffusion
from polygen_stream.ledger import Ledger, Task
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import CaptionTooLong, Kind, Member, RingStats, WaitStopped
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
    pairs, lead = ErrorDiffusion(), LeadTime()
    target = config.captions.target or None
    task_id = opened = 0
    writing = config.captions
    with open(context.run_dir / "journal.jsonl", "a", buffering=1, encoding="utf-8") as journal:
        while not context.stopping and (target is None or opened < target):
            stats = _wait_for_room(context, writing.backlog - writing.batch)
            if stats is None:
                break
            began = time.monotonic()
            step, ahead = stats.step, lead.steps(time.monotonic(), stats)
            tasks, kinds = [], []
            for i in range(writing.batch if target is None else min(writing.batch, target - opened)):
                share = curriculum.production_share(*_aim(context, step, ahead, task_id, opened + i))
                kinds.append(Kind.PAIR if pairs.take(share, 1) else Kind.PLAIN)
                tasks.append(ledger.task(task_id))
                task_id += 1
            ring.heartbeat(f"writing {len(tasks)} captions")
            written = source.write(tasks, [kind is Kind.PAIR for kind in kinds])
            try:
                for task, kind, caption in zip(tasks, kinds, written, strict=True):
                    if isinstance(caption, Caption) and not _open(context, task, kind, caption):
                        caption = Dropped((*caption.rejected, "too long for the ring"))
                    if isinstance(caption, Dropped):
                        ring.skip_task(task.task_id, config.ring.open_timeout_s, stop=lambda: context.stopping)
                    else:
                        opened += 1
                    journal.write(json.dumps(_record(task, kind, caption)) + "\n")
            except WaitStopped:
                break
            ring.heartbeat("writing captions", busy_s=time.monotonic() - began)
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


def _open(context: RoleContext, task: Task, kind: Kind, caption: Caption) -> bool:
    """Opens the task's group; False when its caption is too long, which the ring counts."""
    config = context.config
    members = _members(task, kind, config.generators.negatives)
    try:
        context.ring.open_group(
            task.task_id, kind, caption.text, caption.negative, members,
            config.ring.open_timeout_s, stop=lambda: context.stopping,
        )  # fmt: skip
    except CaptionTooLong:
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


def _record(task: Task, kind: Kind, caption: Caption | Dropped) -> dict[str, object]:
    """What a replay needs to make this group again without a language model; of a dropped task, why."""
    record = {"task": asdict(task), "kind": kind.name.lower()}
    return record | {"caption" if isinstance(caption, Caption) else "dropped": asdict(caption)}


if __name__ == "__main__":
    run_role(main, "captioner")
