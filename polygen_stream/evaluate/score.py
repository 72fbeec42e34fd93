"""A score with its 95 % interval, its number of questions, and what guessing would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Score:
    """A share in 0..1, higher is better. `chance` is None where guessing has no fixed score."""

    score: float
    low: float
    high: float
    n: int
    chance: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON, rounded to what n can tell apart many times over."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def proportion(right: np.ndarray, chance: float | None = None) -> Score:
    """Share of true values in bool [n], n >= 1, with its Wilson interval."""
    right = np.asarray(right, dtype=bool)
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Score(float(right.mean()), float(interval.low), float(interval.high), len(right), chance)


def mean_of(scores: Sequence[Score]) -> Score:
    """Every score weighs the same, however many questions it has.

    Interval of a mean of independent shares by the method of variance estimates recovery: the distances of the single
    limits, added in quadrature (Zou and Donner 2008, Statistics in Medicine 27).
    """
    k = len(scores)
    value = sum(s.score for s in scores) / k
    low = value - math.sqrt(sum((s.score - s.low) ** 2 for s in scores)) / k
    high = value + math.sqrt(sum((s.high - s.score) ** 2 for s in scores)) / k
    chances = [s.chance for s in scores if s.chance is not None]
    chance = sum(chances) / k if len(chances) == k else None
    return Score(value, low, high, sum(s.n for s in scores), chance)
