"""The reader: shards in place of captioner and renderers. Opens a group for every task and fills it at once.

Task i of the run is the i-th usable task of the shards; after the last one the reader begins again with the first,
unless the ring has all of them and keeps them. A task is usable when it has n+ images of its caption. Whether it has a
hard negative is decided by the shards: the curriculum takes what there is.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, curriculum_shares
from polygen_stream.export.reading import StoredSample, read_tasks
from polygen_stream.ring import Claim, Kind, Member, Ring, WaitStopped
from polygen_stream.roles.role import RoleContext, run_role

MAX_UNUSABLE = 512  # tasks in a row
HEARTBEAT_S = 1.0


def main(context: RoleContext) -> None:
    """Open and fill groups until the run's target, or until the process is asked to stop.

    Raises:
        UserError: the shards cannot be read, or are not enough for a batch.
    """
    config, ring = context.config, context.ring
    target, known = config.captions.target or sys.maxsize, ring.stats().known
    ring.reap()  # what an earlier reader had claimed is wanted again
    unfinished: dict[int, list[Claim]] = {}
    for claim in _claim_all(ring):
        unfinished.setdefault(claim.task_id, []).append(claim)
    last_heartbeat = time.monotonic()
    for number, task in _numbered_tasks(config, min(unfinished, default=known), lambda: not _keeps_everything(ring)):
        if context.stopping or number >= target:
            break
        start = time.monotonic()
        samples = select_samples(task, config, number)
        if number < known:
            if number in unfinished:
                _commit(ring, unfinished.pop(number), samples)
            elif start - last_heartbeat > HEARTBEAT_S:
                last_heartbeat = start
                ring.heartbeat(f"looking for task {known} in the shards")
            continue
        try:
            _open_group(context, number, samples)
        except WaitStopped:
            break
        opened = time.monotonic()
        _commit(ring, _claim_all(ring), samples)
        ring.heartbeat(f"task {number}", waited_s=opened - start, busy_s=time.monotonic() - opened)
    if not context.stopping:
        ring.finish_opening()


def select_samples(task: Sequence[StoredSample], config: RunConfig, number: int) -> list[StoredSample]:
    """Select n+ images of a usable task's caption, spread over its generators, and some of its hard negative.

    Negatives whose positive is selected come first. The selection is a function of (seed, number, task).

    Args:
        task: all samples of the task.
        config: says how many images, and has the seed.
        number: of the task in this run.
    """
    by_generator: dict[int, deque[StoredSample]] = {}
    for sample in task:
        if not sample.negative:
            by_generator.setdefault(sample.generator, deque()).append(sample)
    order = deque(sorted(by_generator, key=lambda generator: seeding.key(config.seed, "shards", number, generator)))
    positives: list[StoredSample] = []
    while len(positives) < config.generators.positives:
        generator = order.popleft()
        positives.append(by_generator[generator].popleft())
        if by_generator[generator]:
            order.append(generator)
    twins = {(sample.generator, sample.seed) for sample in positives}
    negatives = [sample for sample in task if sample.negative and sample.text != positives[0].text]
    negatives.sort(key=lambda sample: (sample.generator, sample.seed) not in twins)  # stable
    return positives + negatives[: config.generators.negatives]


@dataclass
class _ShardStats:
    """Counts of the first pass over the shards.

    Args:
        usable: tasks that can be used.
        with_negative: usable tasks that have a hard negative.
        too_few_images: tasks with fewer than n+ images.
        too_long: tasks with a text that the ring cannot take.
        unusable_in_a_row: tasks since the last usable one.
    """

    usable: int = 0
    with_negative: int = 0
    too_few_images: int = 0
    too_long: int = 0
    unusable_in_a_row: int = 0


def _keeps_everything(ring: Ring) -> bool:
    """Whether all groups that were opened are still in the ring and will stay there."""
    limits = ring.limits
    return not (ring.spec.deterministic or ring.stats().evicted or limits.max_times_sampled or limits.max_age)


def _numbered_tasks(
    config: RunConfig, first: int, repeat: Callable[[], bool]
) -> Iterator[tuple[int, list[StoredSample]]]:
    """Read the usable tasks with their numbers, over and over as long as `repeat` says so at the end of a pass.

    Args:
        config: has the folder of the shards.
        first: number of the first task that is needed; whole passes before it are left out.
        repeat: whether to read the shards once more.

    Raises:
        UserError: as read_tasks, or the tasks are not enough for a batch.
    """
    folder, stats, number = Path(config.captions.shards), _ShardStats(), 0
    captions: set[int] | None = set()  # hashes of the first pass's captions; None in later passes
    while True:
        for task in read_tasks(folder, config.generators.names):
            if not _is_usable(task, config, stats):
                if stats.unusable_in_a_row == MAX_UNUSABLE:
                    raise _unusable(config, stats, f"{MAX_UNUSABLE} tasks in a row cannot be used")
                continue
            if captions is not None:
                stats.usable += 1
                stats.with_negative += any(sample.negative for sample in task)
                captions.add(seeding.key(next(sample.text for sample in task if not sample.negative)))
            yield number, task
            number += 1
        if captions is not None:
            _check_batch(config, stats, len(captions))
            captions, passes = None, (first - number) // stats.usable
            number += max(0, passes) * stats.usable
        if not repeat():
            return


def _is_usable(task: Sequence[StoredSample], config: RunConfig, stats: _ShardStats) -> bool:
    too_few = sum(not sample.negative for sample in task) < config.generators.positives
    too_long = not too_few and any(len(sample.text.encode()) > config.ring.caption_bytes for sample in task)
    stats.too_few_images += too_few
    stats.too_long += too_long
    stats.unusable_in_a_row = stats.unusable_in_a_row + 1 if too_few or too_long else 0
    return not (too_few or too_long)


def _check_batch(config: RunConfig, stats: _ShardStats, captions: int) -> None:
    shares, batch = curriculum_shares(config), config.train.batch
    needed, pairs = round(batch * (1 - min(shares))), round(batch * max(shares))
    if captions < needed:
        raise _unusable(config, stats, f"{captions} different captions are too few for a batch of {needed}")
    if stats.with_negative < pairs:
        raise UserError(
            f"the shards in {config.captions.shards} have {stats.with_negative} captions with a hard negative, but a "
            f"batch of train.batch = {batch} texts with {max(shares):.0%} hard negatives needs {pairs}: lower "
            "curriculum.end"
        )


def _unusable(config: RunConfig, stats: _ShardStats, what: str) -> UserError:
    return UserError(
        f"the shards in {config.captions.shards} cannot be used for this run: {what}; {stats.usable} tasks can be "
        f"used, {stats.too_few_images} have fewer images of their caption than generators.positives = "
        f"{config.generators.positives} (those of a task have to follow each other), {stats.too_long} a text longer "
        f"than ring.caption_bytes = {config.ring.caption_bytes}"
    )


def _open_group(context: RoleContext, number: int, samples: Sequence[StoredSample]) -> None:
    kind = Kind.PAIR if any(sample.negative for sample in samples) else Kind.PLAIN
    members = [Member(sample.generator, int(sample.negative), sample.seed) for sample in samples]
    negative = samples[-1].text if kind is Kind.PAIR else None
    timeout_s = context.config.ring.open_timeout_s
    context.ring.open_group(number, kind, samples[0].text, negative, members, timeout_s, lambda: context.stopping)


def _claim_all(ring: Ring) -> list[Claim]:
    """Claim every image that is wanted: no other process renders in this run."""
    generators, claims = range(len(ring.spec.generators)), []
    while found := ring.claim(generators, ring.spec.members):
        claims += found
    return claims


def _commit(ring: Ring, claims: Sequence[Claim], samples: Sequence[StoredSample]) -> None:
    if not claims:  # the ring's file had all of them already
        return
    size = ring.spec.image_shape[0]
    ring.commit(claims, np.stack([samples[claim.member].image(size) for claim in claims]))


if __name__ == "__main__":
    run_role(main, "reader")
