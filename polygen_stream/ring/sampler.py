"""Which groups a draw takes: least sampled first, ties broken by a keyed hash, never one caption twice.

Order inside a kind: (times sampled, hash of (seed, step, task id)). Reuse spreads evenly, and the result
depends only on which groups are ready, not on the order in which they arrived or on the rows they happen to
lie in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polygen_stream.ring.records import Kind
from polygen_stream.seeding import key


@dataclass(frozen=True)
class Candidates:
    """Drawable groups, one array entry each (int64 unless noted)."""

    row: np.ndarray
    kind: np.ndarray  # uint8
    times: np.ndarray
    task: np.ndarray
    caption_key: np.ndarray
    negative_key: np.ndarray


@dataclass(frozen=True)
class Shortage:
    """Why a draw must wait: `ready` of `wanted` groups of `kind` are there."""

    kind: Kind
    wanted: int
    ready: int


def draw_hash(seed: int, step: int, task: np.ndarray) -> np.ndarray:
    """Keyed 64-bit hash of task ids (int64 [n] -> uint64 [n]); the mixer is splitmix64's finalizer."""
    mixed = task.astype("u8") + np.uint64(key("ring.draw", seed, step) & (2**64 - 1))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def select(groups: Candidates, seed: int, step: int, plain: int, pair: int) -> tuple[np.ndarray, np.ndarray] | Shortage:
    """Returns (positions drawn as PLAIN, positions drawn as PAIR), or the shortage that prevents it.

    PAIR demand is met first, because PLAIN demand that lacks plain groups may take the remaining PAIR groups.
    """
    hashes = draw_hash(seed, step, groups.task)
    is_pair = groups.kind == Kind.PAIR
    used: set[int] = set()
    pairs = _take(groups, hashes, np.flatnonzero(is_pair), pair, used, with_negative=True)
    if pairs.size < pair:
        return Shortage(Kind.PAIR, pair, pairs.size)
    plains = _take(groups, hashes, np.flatnonzero(~is_pair), plain, used, with_negative=False)
    if plains.size < plain:
        left = np.setdiff1d(np.flatnonzero(is_pair), pairs, assume_unique=True)
        extra = _take(groups, hashes, left, plain - plains.size, used, with_negative=False)
        plains = np.concatenate([plains, extra])
    if plains.size < plain:
        return Shortage(Kind.PLAIN, plain, plains.size)
    return plains, pairs


def _take(
    groups: Candidates, hashes: np.ndarray, among: np.ndarray, count: int, used: set[int], with_negative: bool
) -> np.ndarray:
    """Up to `count` positions out of `among` in draw order, skipping texts in `used` (which it extends)."""
    chosen: list[int] = []
    # look at a little more than needed first: texts that occur twice are rare
    for position in _in_order(groups, hashes, among, count + 32 if count else 0):
        if len(chosen) == count:
            break
        texts = {int(groups.caption_key[position])}
        if with_negative:
            texts.add(int(groups.negative_key[position]))
        if used.isdisjoint(texts):
            used |= texts
            chosen.append(position)
    return np.array(chosen, dtype=np.int64)


def _in_order(groups: Candidates, hashes: np.ndarray, among: np.ndarray, head: int):
    """Yields positions in draw order, sorting only the first `head` of them unless more are asked for."""
    if head == 0:
        return
    times = groups.times[among]
    if head < among.size:
        limit = np.partition(times, head - 1)[head - 1]
        below, level = among[times < limit], among[times == limit]
        rest = head - below.size
        level_hash = hashes[level]
        if rest < level.size:
            threshold = np.partition(level_hash, rest - 1)[rest - 1]
            level = level[level_hash <= threshold]
        first = np.concatenate([below, level])
        first = first[np.lexsort((groups.task[first], hashes[first], groups.times[first]))]
        yield from first.tolist()
        among = np.setdiff1d(among, first, assume_unique=True)
    yield from among[np.lexsort((groups.task[among], hashes[among], groups.times[among]))].tolist()
