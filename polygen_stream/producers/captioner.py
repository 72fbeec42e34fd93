"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from contextlib import closing
from dataclasses import asdict

from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import curriculum_of
from polygen_stream.curriculum import ErrorDiffusion
from polygen_stream.ledger import Ledger, Task
from polygen_stream.producers.lead_time import LeadTime
from polygen_stream.ring import CaptionTooLong, Kind, Member, WaitStopped
from polygen_stream.role import RoleContext, run_role

POLL_S = 0.05


def main(context: RoleContext) -> None:
    context.ring.heartbeat("loading the caption source")
    with closing(caption_source(context.config.captions)) as source:
        _write(context, source)


def _write(context: RoleContext, source: CaptionSource) -> None:
    """Hands tasks to the source while there is room for their pictures, and opens the groups of what comes back."""
    config, ring = context.config, context.ring
    ledger = Ledger(
        config.seed, source.concepts, source.axes, len(config.generators.recipes), config.generators.positives
    )
    curriculum = curriculum_of(config)
    pairs, lead, pause = ErrorDiffusion(), LeadTime(), _Pause(context, source)
    writing, target = config.captions, config.captions.target or sys.maxsize
    in_hand: deque[tuple[Task, Kind]] = deque()
    task_id = opened = 0
    with open(context.run_dir / "journal.jsonl", "a", buffering=1, encoding="utf-8") as journal:
        while not context.stopping and opened < target:
            stats = ring.stats()
            taken = sum(counts["open"] for counts in stats.groups.values()) + source.pending
            wanted = min(writing.batch, target - opened - source.pending)
            # A whole batch at once: a model that is run batch by batch must not be fed one by one. The bound keeps
            # captions close to the step they are written for, and a fast generator close to the slow ones.
            if wanted and taken <= writing.backlog - writing.batch:
                began = time.monotonic()
                ahead = lead.steps(began, stats)
                for _ in range(wanted):
                    aim = _aim(context, stats.step, ahead, task_id, opened + len(in_hand))
                    kind = Kind.PAIR if pairs.take(curriculum.production_share(*aim), 1) else Kind.PLAIN
                    in_hand.append((ledger.task(task_id), kind))
                    source.submit(in_hand[-1][0], kind is Kind.PAIR)
                    task_id += 1
                pause.over()
            elif source.pending:
                began = time.monotonic()
                ring.heartbeat(f"writing {source.pending} captions")
            else:
                pause.take()
                continue
            try:
                for caption in source.collect():
                    task, kind = in_hand.popleft()
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


class _Pause:
    """Waits for the renderers; after captions.rest_after_s the source gives its memory back."""

    def __init__(self, context: RoleContext, source: CaptionSource) -> None:
        self._context, self._source = context, source
        self._began: float | None = None
        self._rested = False

    def take(self) -> None:
        """One short wait."""
        ring, rest_after_s = self._context.ring, self._context.config.captions.rest_after_s
        now = time.monotonic()
        self._began = self._began or now
        if rest_after_s and not self._rested and now - self._began > rest_after_s:
            ring.heartbeat("putting the language models to sleep")
            freed = self._source.rest()
            print(f"the language models rest: {freed} bytes freed", flush=True)
            self._rested = True
        time.sleep(POLL_S)
        doing = "waiting for the renderers" + (", the language models rest" if self._rested else "")
        ring.heartbeat(doing, waited_s=time.monotonic() - now)

    def over(self) -> None:
        self._began, self._rested = None, False


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
