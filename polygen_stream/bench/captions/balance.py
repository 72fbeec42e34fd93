"""What balancing costs per caption, and how it flattens a bank's frequencies."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.captions.selection.balance import Balancer

SEED = 0
CHUNK = 20_000  # captions written at once, outside the measured time
SCENERY = 300
EXPONENT = 1.0  # of Zipf's law by which captions choose concepts: language does about that

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "an", "el")]
_TEMPLATES = (
    "a {a} on a {b}", "a photo of a {a} and a {b} in the {c}", "two {a}s next to the {b}", "the {a} , seen from a {b}",
    "a small {a} under a {b} near the {c}", "a {a} with a {b} in front of a {c}", "an old {a} behind a {b} at night",
    "a red {a} stands beside a blue {b} in the {c} .",
)  # fmt: skip


def made_up_bank(size: int) -> list[str]:
    """Entries of the length and make of a concept bank's: three in four are one word, the others two."""
    rng = seeding.rng(SEED, "bank")
    bank: dict[str, None] = {}
    while len(bank) < size:
        for words, syllables in zip(rng.random(size), rng.integers(2, 5, (size, 2)), strict=True):
            parts = [
                "".join(_SYLLABLES[i] for i in rng.integers(len(_SYLLABLES), size=count))
                for count in syllables[: 1 if words < 0.75 else 2]
            ]
            bank[" ".join(parts)] = None
            if len(bank) == size:
                break
    return list(bank)


def written_captions(bank: Sequence[str], count: int) -> Iterator[list[str]]:
    """`count` captions in chunks: each is about one concept, chosen by Zipf's law over a shuffled bank, among others.

    The others are everyday things, the most frequent `SCENERY` concepts, any of them as often as another.
    """
    rng = seeding.rng(SEED, "captions")
    shares = np.cumsum(np.arange(1, len(bank) + 1, dtype=np.float64) ** -EXPONENT)
    order = rng.permutation(len(bank))
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        about = order[np.searchsorted(shares, rng.random(size) * shares[-1])]
        others = order[rng.integers(min(SCENERY, len(bank)), size=(size, 2))]
        templates = rng.integers(len(_TEMPLATES), size=size)
        yield [
            _TEMPLATES[template].format(a=bank[a], b=bank[b], c=bank[c])
            for template, a, (b, c) in zip(templates, about.tolist(), others.tolist(), strict=True)
        ]


def bench_balance(
    bank: Sequence[str], captions: int, threshold: float, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Feeds captions through a balancer. Seconds are those of the balancer; memory is the whole process's peak."""
    began = time.perf_counter()
    balancer = Balancer(bank, threshold, SEED)
    build_s = time.perf_counter() - began
    say(f"{len(bank):,} entries in {build_s:.1f} s")
    decide_s, task_id = 0.0, 0
    for texts in written_captions(bank, captions):
        began = time.perf_counter()
        for text in texts:
            balancer.decide(task_id, text)
            task_id += 1
        decide_s += time.perf_counter() - began
        if task_id % (10 * CHUNK) == 0:
            say(f"{task_id:,} captions in {decide_s:.1f} s")
    return {
        "entries": len(bank),
        "captions": captions,
        "threshold": threshold,
        "build_s": round(build_s, 2),
        "decide_s": round(decide_s, 2),
        "captions_per_s": round(captions / decide_s),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "verdicts": {verdict.name.lower() if verdict else "kept": n for verdict, n in balancer.verdicts.items()},
        "seen": _steps(balancer.seen),
        "kept": _steps(balancer.kept),
    }


def _steps(counts: Sequence[int]) -> list[list[int]]:
    """[rank, count] of the entries from the most frequent one, at ranks 1, 2, 3, ... about 10 % apart."""
    ordered = np.sort(np.asarray(counts))[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), 140).astype(int))
    return [[int(rank), int(ordered[rank - 1])] for rank in ranks]
