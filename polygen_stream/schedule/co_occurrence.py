"""Co-occurrence: the order in which a finite data set of captions with hard negatives is shown, epoch by epoch.

This is the batched sampler of PolyGen's first author. With B texts in a batch and the epoch's share p:

- int(p B) *pairs*, a caption T+ and its T- together, and B - 2 int(p B) *singles*, of which one side is shown, T+ or T-
  by a fair coin,
- the side that a single did not show is a leftover. The leftovers of an epoch are shuffled and cut into batches without
  pairs, which are spread among the others.

So an epoch shows T+ and T- of every caption once, hard negatives are half of all texts, and p moves how many of them
meet their caption in a batch: none at p = 0, all at p = 0.5. What an incomplete last batch holds, of either sort, is
left out of the epoch. A stream, which has no epochs, follows other_sides.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpochBatch:
    """One batch: B texts.

    Attributes:
        singles: captions of which one side is shown, int64 [B - 2 k].
        negative: whether that side is T-, bool [B - 2 k].
        pairs: captions of which both sides are shown, int64 [k].
        share: p that the batch was made for; 0 for a batch of leftovers.
    """

    singles: np.ndarray
    negative: np.ndarray
    pairs: np.ndarray
    share: float


def epoch_batches(
    captions: int, texts: int, share: Callable[[float], float], random: np.random.Generator
) -> list[EpochBatch]:
    """Return the batches of one epoch.

    Args:
        captions: N, number of captions, each with a hard negative.
        texts: B, texts of a batch.
        share: p, in [0, 0.5], as a function of the part of the epoch that lies behind, in [0, 1). A constant is the
            paper's.
        random: decides the order of the captions, the coins and the place of the leftovers.
    """
    order = random.permutation(captions)
    mixed: list[EpochBatch] = []
    at = 0
    while at < captions:
        p = share(at / captions)
        pairs = int(p * texts)
        stop = at + texts - pairs
        if stop > captions:
            break
        singles = order[at + pairs : stop]
        mixed.append(EpochBatch(singles, random.random(singles.size) < 0.5, order[at : at + pairs], p))
        at = stop
    none = np.empty(0, np.int64)
    rows = np.concatenate([none, *(batch.singles for batch in mixed)])
    negative = ~np.concatenate([np.empty(0, bool), *(batch.negative for batch in mixed)])
    shuffled = random.permutation(rows.size)
    leftovers = [
        EpochBatch(rows[part], negative[part], none, 0.0)
        for part in (shuffled[i : i + texts] for i in range(0, rows.size - texts + 1, texts))
    ]
    # The others keep their order, so that p moves forward; which places have leftovers is random.
    is_leftover = random.permutation(np.arange(len(mixed) + len(leftovers)) < len(leftovers))
    sources = {True: iter(leftovers), False: iter(mixed)}
    return [next(sources[choice]) for choice in is_leftover.tolist()]
