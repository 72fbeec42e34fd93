"""The reader: shards instead of captioner and renderers. Opens a group for every task and fills it at once.

Task i of the run is the i-th usable task of the shards; behind the last one it begins again with the first, unless the
ring has all of them and keeps them. A task is usable when it has n+ pictures of its caption. Whether it has a hard
negative is for the shards to say: the curriculum takes what there is.
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
from polygen_stream.export.reading import Stored, read_tasks
from polygen_stream.ring import Claim, Kind, Member, Ring, WaitStopped
from polygen_stream.roles.role import RoleContext, run_role

MOST_UNUSABLE = 512  # tasks in a row
BEAT_EVERY_S = 1.0


def main(context: RoleContext) -> None:
    config, ring = context.config, context.ring
    target, known = config.captions.target or sys.maxsize, ring.stats().known
    ring.reap()  # what a reader before this one had begun is wanted again
    wanted: dict[int, list[Claim]] = {}
    for claim in _claims(ring):
        wanted.setdefault(claim.task_id, []).append(claim)
    beat = time.monotonic()
    for number, task in _tasks(config, min(wanted, default=known), lambda: not _has_all(ring)):
        if context.stopping or number >= target:
            break
        began = time.monotonic()
        chosen = choose(task, config, number)
        if number < known:
            if number in wanted:
                _commit(ring, wanted.pop(number), chosen)
            elif began - beat > BEAT_EVERY_S:
                beat = began
                ring.heartbeat(f"looking for task {known} in the shards")
            continue
        kind = Kind.PAIR if any(stored.negative for stored in chosen) else Kind.PLAIN
        members = [Member(stored.generator, int(stored.negative), stored.seed) for stored in chosen]
        texts = chosen[0].text, chosen[-1].text if kind is Kind.PAIR else None
        try:
            ring.open_group(number, kind, *texts, members, config.ring.open_timeout_s, lambda: context.stopping)
        except WaitStopped:
            break
        opened = time.monotonic()
        _commit(ring, _claims(ring), chosen)
        ring.heartbeat(f"task {number}", waited_s=opened - began, busy_s=time.monotonic() - opened)
    if not context.stopping:
        ring.finish_opening()


def choose(task: Sequence[Stored], config: RunConfig, number: int) -> list[Stored]:
    """n+ pictures of a usable task's caption, spread over its generators, and up to config's number of its negatives.

    Negatives whose positive is among them go first. What is chosen is a function of (seed, number, task).
    """
    of_generator: dict[int, deque[Stored]] = {}
    for stored in task:
        if not stored.negative:
            of_generator.setdefault(stored.generator, deque()).append(stored)
    order = deque(sorted(of_generator, key=lambda generator: seeding.key(config.seed, "shards", number, generator)))
    positives: list[Stored] = []
    while len(positives) < config.generators.positives:
        generator = order.popleft()
        positives.append(of_generator[generator].popleft())
        if of_generator[generator]:
            order.append(generator)
    twins = {(stored.generator, stored.seed) for stored in positives}
    negatives = [stored for stored in task if stored.negative and stored.text != positives[0].text]
    negatives.sort(key=lambda stored: (stored.generator, stored.seed) not in twins)  # stable
    return positives + negatives[: config.generators.negatives]


@dataclass
class _Census:
    """What the first pass over the shards found."""

    usable: int = 0
    pairs: int = 0
    few: int = 0  # tasks with too few pictures
    long: int = 0  # with a text that the ring cannot take
    unusable_in_a_row: int = 0


def _has_all(ring: Ring) -> bool:
    """Whether all that was opened is still in the ring and will be for good."""
    limits = ring.limits
    return not (ring.spec.deterministic or ring.stats().evicted or limits.max_times_sampled or limits.max_age)


def _tasks(config: RunConfig, first: int, again: Callable[[], bool]) -> Iterator[tuple[int, list[Stored]]]:
    """The usable tasks, numbered, over and over as long as `again` says so at the end of a pass.

    first: nobody asks for those before it, so whole passes of them are left out.

    Raises:
        UserError: what read_tasks says, or they are not enough for a batch.
    """
    folder, census, texts, number = Path(config.captions.shards), _Census(), set(), 0
    while True:
        for task in read_tasks(folder, config.generators.names):
            if not _is_usable(task, config, census):
                if census.unusable_in_a_row == MOST_UNUSABLE:
                    raise _unusable(config, census, f"{MOST_UNUSABLE} tasks in a row have none to offer")
                continue
            if texts is not None:
                census.usable += 1
                census.pairs += any(stored.negative for stored in task)
                texts.add(seeding.key(next(stored.text for stored in task if not stored.negative)))
            yield number, task
            number += 1
        if texts is not None:
            _check_batch(config, census, len(texts))
            texts, passes = None, (first - number) // census.usable
            number += max(0, passes) * census.usable
        if not again():
            return


def _is_usable(task: Sequence[Stored], config: RunConfig, census: _Census) -> bool:
    few = sum(not stored.negative for stored in task) < config.generators.positives
    long = not few and any(len(stored.text.encode()) > config.ring.caption_bytes for stored in task)
    census.few += few
    census.long += long
    census.unusable_in_a_row = census.unusable_in_a_row + 1 if few or long else 0
    return not (few or long)


def _check_batch(config: RunConfig, census: _Census, captions: int) -> None:
    shares, batch = curriculum_shares(config), config.train.batch
    needed, pairs = round(batch * (1 - min(shares))), round(batch * max(shares))
    if captions < needed:
        raise _unusable(config, census, f"{captions} different captions are too few for a batch of {needed}")
    if census.pairs < pairs:
        raise UserError(
            f"the shards in {config.captions.shards} have {census.pairs} captions with a hard negative, but a batch of "
            f"train.batch = {batch} texts with {max(shares):.0%} hard negatives needs {pairs}: lower curriculum.end"
        )


def _unusable(config: RunConfig, census: _Census, what: str) -> UserError:
    return UserError(
        f"the shards in {config.captions.shards} do not do for this run: {what}; {census.usable} tasks can be used, "
        f"{census.few} have fewer pictures of their caption than generators.positives = {config.generators.positives} "
        f"(those of a task have to follow each other), {census.long} a text longer than ring.caption_bytes = "
        f"{config.ring.caption_bytes}"
    )


def _claims(ring: Ring) -> list[Claim]:
    """Everything that is wanted: nobody else renders in this run."""
    everybody, found = range(len(ring.spec.generators)), []
    while claims := ring.claim(everybody, ring.spec.members):
        found += claims
    return found


def _commit(ring: Ring, claims: Sequence[Claim], chosen: Sequence[Stored]) -> None:
    size = ring.spec.image_shape[0]
    ring.commit(claims, np.stack([chosen[claim.member].picture(size) for claim in claims]))


if __name__ == "__main__":
    run_role(main, "reader")
