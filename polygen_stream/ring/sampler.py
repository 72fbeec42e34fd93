"""Samplers: which of the groups that may be drawn a draw takes.

`ring.sampler` is a name, or the "module:attribute" of a function that follows `Sampler`.

"rounds" draws round by round, within a round by a keyed hash, never one caption twice. Order inside a kind: (round,
hash of (seed, step, task id)). Reuse spreads evenly, and the result depends only on which groups are ready, not on the
order in which they arrived or on the rows they happen to lie in. "uniform" is the hash alone: every group is as likely
as any other, however often it was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.seeding import key, mixed
from polygen_stream.registry import SAMPLERS, is_own
from polygen_stream.ring.records import Kind

_BLOCK = 1 << 13  # rows computed on at a time: the intermediate values stay in the cache
_NEVER = np.int64(2**62)  # later than any round
_FAR = 255  # rounds beyond the earliest, from where on groups are sorted one by one
_SPARE = 32  # groups put in order beyond those wanted, for texts that occur twice

NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Candidates:
    """Group columns, one entry per group row (int64 unless noted), and which rows may be drawn.

    Attributes:
        drawable: bool.
        kind: uint8, PLAIN or PAIR.
        round: number of the round that draws the group next.
        task: task id.
        caption_key: of the text that a draw as PLAIN takes.
        negative_key: of the other text of a PAIR group.
        alike: whether groups of either kind are drawn as PLAIN in the same way; if not, PAIR groups only where others
            lack.
    """

    drawable: np.ndarray
    kind: np.ndarray
    round: np.ndarray
    task: np.ndarray
    caption_key: np.ndarray
    negative_key: np.ndarray
    alike: bool = False


@dataclass(frozen=True)
class Shortage:
    """Why a draw must wait: `ready` of `wanted` groups of `kind` are there."""

    kind: Kind
    wanted: int
    ready: int


class Sampler(Protocol):
    """Choose the groups of a batch.

    A sampler is called by the process that draws (rank 0 of a node's trainer), once or more for each batch, under the
    ring's mutex: it has to be fast, which is a few passes over the columns, and a function of its arguments alone, or
    an interrupted run would not go on as it would have gone on. It may import NumPy, but should not import torch.
    """

    def __call__(
        self, groups: Candidates, seed: int, step: int, plain: int, pair: int, first: np.ndarray, /
    ) -> tuple[np.ndarray, np.ndarray] | Shortage:
        """Return the rows of a batch, or why it cannot be had yet.

        Args:
            groups: The columns of all group rows, and which rows may be drawn. They must not be changed.
            seed: The run's.
            step: Step that the batch is for.
            plain: Number of groups to draw as PLAIN, of which only the caption is trained on. Groups of kind PAIR will
                do for it.
            pair: Number of groups to draw as PAIR, with their hard negatives: of kind PAIR only.
            first: int64 [n], rows that should go before others of their kind, in this order (the leftover queue); a
                sampler may pass over them.

        Returns:
            Rows drawn as PLAIN, int64 [plain], and rows drawn as PAIR, int64 [pair]: all different, all drawable, and
            no two groups that train on the same text (equal keys: caption_key, of PAIR also negative_key). Or the
            `Shortage` for which the draw has to wait.
        """
        ...


@cache
def find_sampler(name: str) -> Sampler:
    """Return the sampler that ring.sampler names.

    Raises:
        UserError: There is none, or it cannot be imported or called as a sampler is.
    """
    found: Sampler = SAMPLERS.load(name)
    return _checked(name, found) if is_own(name) else found


def _checked(name: str, sampler: Sampler) -> Sampler:
    """Return a sampler of the user's own that refuses a batch that could not be trained on."""

    def checked(
        groups: Candidates, seed: int, step: int, plain: int, pair: int, first: np.ndarray, /
    ) -> tuple[np.ndarray, np.ndarray] | Shortage:
        chosen = sampler(groups, seed, step, plain, pair, first)
        if isinstance(chosen, Shortage):
            return chosen
        if problem := _problem(groups, plain, pair, chosen):
            raise PolygenError(f"ring.sampler = {name!r}, step {step}: {problem}; see {SAMPLERS.contract}")
        plains, pairs = chosen
        return np.asarray(plains, np.int64), np.asarray(pairs, np.int64)

    return checked


def _problem(groups: Candidates, plain: int, pair: int, chosen: object) -> str | None:
    """What is wrong with the rows that a sampler has chosen, in words."""
    if not isinstance(chosen, tuple) or len(chosen) != 2:
        return f"it returned {type(chosen).__name__}, not two arrays of rows or a Shortage"
    plains, pairs = (np.asarray(rows) for rows in chosen)
    if plains.shape != (plain,) or pairs.shape != (pair,):
        return f"it chose {list(plains.shape)} and {list(pairs.shape)} rows of {plain} PLAIN and {pair} PAIR"
    rows = np.concatenate([plains, pairs])
    size = groups.drawable.size
    if rows.dtype.kind not in "iu" or ((rows < 0) | (rows >= size)).any() or not groups.drawable[rows].all():
        return "it chose a row that may not be drawn"
    if (groups.kind[pairs] != Kind.PAIR).any():
        return "it chose a group without a hard negative as PAIR"
    texts = np.concatenate([groups.caption_key[rows], groups.negative_key[pairs]])
    return "it chose one text twice" if np.unique(texts).size < texts.size else None


def draw_hash(seed: int, step: int, task: np.ndarray) -> np.ndarray:
    """Keyed 64-bit hash of task ids (int64 [n] -> uint64 [n])."""
    return mixed(task, _salt(seed, step))


def coin(seed: int, step: int, task: np.ndarray) -> np.ndarray:
    """Toss a fair coin for each task id (int64 [n] -> bool [n]): whether a draw by coin takes T-."""
    return mixed(task, key("ring.side", seed, step)) >> np.uint64(63) == 1


def _salt(seed: int, step: int) -> int:
    return key("ring.draw", seed, step)


def select_uniformly(
    groups: Candidates, seed: int, step: int, plain: int, pair: int, first: np.ndarray = NO_ROWS
) -> tuple[np.ndarray, np.ndarray] | Shortage:
    """Return what `select` does if all groups were in one round: ring.sampler = "uniform"."""
    return select(replace(groups, round=np.zeros_like(groups.round)), seed, step, plain, pair, first)


def select(
    groups: Candidates, seed: int, step: int, plain: int, pair: int, first: np.ndarray = NO_ROWS
) -> tuple[np.ndarray, np.ndarray] | Shortage:
    """Return (rows drawn as PLAIN, rows drawn as PAIR), or the shortage that prevents it: ring.sampler = "rounds".

    PAIR demand is met first, because PLAIN demand that lacks plain groups may take the remaining PAIR groups. The rows
    `first` go before others of their kind; PAIR groups that fill a lack of plain ones come in the usual order.
    """
    order = _DrawOrder(groups, seed, step)
    is_pair = groups.drawable & (groups.kind == Kind.PAIR)
    used: set[int] = set()
    pairs = order.take(is_pair, pair, used, with_negative=True, first=first)
    if pairs.size < pair:
        return Shortage(Kind.PAIR, pair, pairs.size)
    if groups.alike:
        others = groups.drawable.copy()
        others[pairs] = False
    else:
        others = groups.drawable & ~is_pair
    plains = order.take(others, plain, used, with_negative=False, first=first)
    if plains.size < plain and not groups.alike:
        is_pair[pairs] = False
        extra = order.take(is_pair, plain - plains.size, used, with_negative=False)
        plains = np.concatenate([plains, extra])
    if plains.size < plain:
        return Shortage(Kind.PLAIN, plain, plains.size)
    return plains, pairs


class _DrawOrder:
    """The order of draws of one step, of which no more is computed than is asked for.

    A draw runs under the ring's mutex and looks at every group. So it passes over whole columns and keeps a byte
    or two per group: gathering the groups in question, or 8-byte values of all of them, costs several times as much.
    """

    def __init__(self, groups: Candidates, seed: int, step: int) -> None:
        self._groups = groups
        self._salt = _salt(seed, step)
        self._prefixes: np.ndarray | None = None  # first 16 bits of each row's hash, once they are needed

    def take(
        self, among: np.ndarray, count: int, used: set[int], with_negative: bool, first: np.ndarray = NO_ROWS
    ) -> np.ndarray:
        """Up to `count` rows out of `among` (a mask), `first` before others, skipping texts in `used`; extends it."""
        groups = self._groups
        chosen: list[int] = []
        for rows in self._sorted_parts(among, count + _SPARE, first[among[first]]) if count else ():
            captions = groups.caption_key[rows].tolist()
            negatives = groups.negative_key[rows].tolist() if with_negative else captions
            head = set(captions[:count]).union(negatives[:count])
            if not chosen and len(head) == (1 + with_negative) * count and used.isdisjoint(head):
                used |= head  # the usual case: no text comes twice
                return rows[:count]
            for row, caption, negative in zip(rows.tolist(), captions, negatives, strict=True):
                texts = {caption, negative}
                if used.isdisjoint(texts):
                    used |= texts
                    chosen.append(row)
                    if len(chosen) == count:
                        break
            if len(chosen) == count:
                break
        return np.array(chosen, dtype=np.int64)

    def _sorted_parts(self, among: np.ndarray, head: int, first: np.ndarray) -> Iterator[np.ndarray]:
        """Rows in order: `first`, then at least `head` of the others, and the rest only if it is asked for."""
        if first.size:
            yield first
            among = among.copy()
            among[first] = False
        top = self._head(among, head)
        yield self._sorted(top)
        rest = among.copy()
        rest[top] = False
        yield self._sorted(np.flatnonzero(rest))

    def _head(self, among: np.ndarray, head: int) -> np.ndarray:
        """Rows of the first `head` or a few more, unordered: whole rounds, then the lowest hashes of one."""
        levels, left, parts = self._levels(among), int(np.count_nonzero(among)), []
        for number in range(_FAR):
            if head <= 0 or left == 0:
                return np.concatenate(parts) if parts else np.empty(0, np.int64)
            level = among & (levels == number)
            size = int(np.count_nonzero(level))
            if size == 0:
                continue
            # hashes are uniform: this share of them holds `head` and 8 standard deviations more
            share = (head + 8 * math.sqrt(max(head, 1))) / size
            rows = self._hashed_below(level, math.ceil(share * 2**16)) if share < 1 else np.empty(0, np.int64)
            if rows.size < head:
                rows = np.flatnonzero(level)
            parts.append(rows)
            head -= rows.size
            left -= size
        return np.flatnonzero(among)

    def _levels(self, among: np.ndarray) -> np.ndarray:
        """Rounds from the earliest of `among` (a mask) to each group's, uint8 [n], at most _FAR."""
        rounds = self._groups.round
        blocks = [slice(start, start + _BLOCK) for start in range(0, rounds.size, _BLOCK)]
        # not np.where: it branches on each row, and the processor guesses wrong when kinds are mixed
        least = min(int((rounds[block] | ~among[block] * _NEVER).min()) for block in blocks)
        levels = np.empty(rounds.size, "u1")
        for block in blocks:
            np.minimum(rounds[block] - least, _FAR, out=levels[block], casting="unsafe")
        return levels

    def _hashed_below(self, among: np.ndarray, bound: int) -> np.ndarray:
        """Rows out of `among` (a mask) with the first 16 bits of their hash below `bound`."""
        if self._prefixes is None:
            task = self._groups.task
            self._prefixes = np.empty(task.size, "u2")
            for start in range(0, task.size, _BLOCK):
                hashes = mixed(task[start : start + _BLOCK], self._salt)
                np.right_shift(hashes, np.uint64(48), out=self._prefixes[start : start + _BLOCK], casting="unsafe")
        return np.flatnonzero(among & (self._prefixes < bound))

    def _sorted(self, rows: np.ndarray) -> np.ndarray:
        tasks = self._groups.task[rows]
        return rows[np.lexsort((tasks, mixed(tasks, self._salt), self._groups.round[rows]))]
