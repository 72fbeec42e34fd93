"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from polygen_stream.captions.base import Caption
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
    source = caption_source(config.captions)
    ledger = Ledger(
        config.seed, source.concepts, source.axes, len(config.generators.recipes), config.generators.positives
    )
    curriculum = curriculum_of(config)
    pairs, lead = ErrorDiffusion(), LeadTime()
    target = config.captions.target or None
    task_id = opened = 0
    with open(context.run_dir / "journal.jsonl", "a", buffering=1, encoding="utf-8") as journal:
        while not context.stopping and (target is None or opened < target):
            stats = _wait_for_backlog(context, config.captions.backlog)
            if stats is None:
                break
            began = time.monotonic()
            step, ahead = stats.step, lead.steps(time.monotonic(), stats)
            if ring.spec.deterministic:
                # What a task is must not depend on when it is written: the window moves at a fixed pace.
                step, ahead = int(task_id / (ring.spec.inserts_per_step or target / config.train.steps)), 0.0
            elif target is not None:
                # Producers that outrun the trainer will have stopped when the last steps ask for hard negatives: a
                # group that spends the k-th part of the budget is made for the k-th part of the run, or a later one.
                ahead = max(ahead, config.train.steps * opened / target - step)
            share = curriculum.production_share(step, ahead)
            kind = Kind.PAIR if pairs.take(share, 1) else Kind.PLAIN
            task = ledger.task(task_id)
            task_id += 1
            [caption] = source.write([task], [kind is Kind.PAIR])
            try:
                if caption is None or not _open(context, task, kind, caption):
                    ring.skip_task(task.task_id, config.ring.open_timeout_s, stop=lambda: context.stopping)
                    continue
            except WaitStopped:
                break
            opened += 1
            journal.write(json.dumps(_record(task, kind, caption)) + "\n")
            ring.heartbeat("writing captions", busy_s=time.monotonic() - began)
    ring.finish_opening()


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


def _wait_for_backlog(context: RoleContext, backlog: int) -> RingStats | None:
    """The ring's state once fewer than `backlog` groups are open; None when the run stops first.

    The bound keeps captions close to the step they are written for, and a fast generator close to the slow ones.
    """
    ring, began, waited = context.ring, time.monotonic(), 0.0
    while not context.stopping:
        stats = ring.stats()
        if sum(counts["open"] for counts in stats.groups.values()) < backlog:
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


def _record(task: Task, kind: Kind, caption: Caption) -> dict[str, object]:
    """What a replay needs to make this group again without a language model."""
    return {"task": asdict(task), "kind": kind.name.lower(), "caption": asdict(caption)}


if __name__ == "__main__":
    run_role(main, "captioner")
