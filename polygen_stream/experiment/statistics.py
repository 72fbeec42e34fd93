"""Delta_MTL of the arms, and the contrasts of an experiment, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.delta_mtl import delta_mtl
from polygen_stream.experiment.bootstrap import CrossedBootstrap, Interval, outcomes_of
from polygen_stream.experiment.results import TASKS, TrialResult
from polygen_stream.experiment.spec import Experiment

LEVEL = 0.95
SEEDS_FOR_P = 3  # fewest paired seeds of a p value: two can agree by chance to any number of digits


@dataclass(frozen=True)
class SeedDelta:
    """Change of one run over the baseline's run of the same seed, in percent.

    Attributes:
        percent: {outcome: percent} for "delta_mtl", each of TASKS, COMPOSITION and, where it is measured, WORST.
    """

    arm: str
    seed: int
    percent: dict[str, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % t interval; the limits are NaN if there is one seed."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True)
class ArmDifference:
    """A contrast in one outcome, paired by seed.

    Attributes:
        estimate: in points of percent of the baseline, with the t interval over seeds.
        interval: 95 % over pools, seeds and test items, see `CrossedBootstrap`.
        p: of a two-sided paired t test; NaN with fewer than SEEDS_FOR_P seeds.
        p_holm: the same after Holm's correction over all differences of a page that have a p.
    """

    arm: str
    against: str
    question: str
    outcome: str
    estimate: Estimate
    interval: Interval
    p: float
    p_holm: float


def delta_by_seed(results: Sequence[TrialResult], baseline: str) -> list[SeedDelta]:
    """Compute the change of every test run whose seed the baseline was run with too.

    It is the difference to the baseline's run of the same seed, divided by the mean of the baseline over its seeds:
    the effect of a seed on both runs cancels out, and no run counts more because its own baseline is small. The runs
    of the baseline itself are 0.

    Raises:
        UserError: an arm has two test runs of one seed; a task of the baseline has a mean that is not positive.
    """
    tested = [result for result in results if result.phase == "test"]
    _check_unique(tested)
    reference = {result.seed: result.scores for result in tested if result.arm == baseline}
    others = [outcome for outcome in outcomes_of(results) if outcome != "delta_mtl"]
    outcomes = [*TASKS, *others]
    means = {name: float(np.mean([scores[name] for scores in reference.values()])) for name in outcomes}
    deltas = []
    for result in tested:
        if result.seed not in reference:
            continue
        # M_t - B_t of the seed, added to the mean of B_t.
        scores = {name: means[name] + result.scores[name] - reference[result.seed][name] for name in outcomes}
        total, terms = delta_mtl({t: scores[t] for t in TASKS}, {t: means[t] for t in TASKS})
        changes = {name: 100 * (scores[name] - means[name]) / means[name] for name in others}
        deltas.append(SeedDelta(result.arm, result.seed, {"delta_mtl": total, **terms, **changes}))
    return deltas


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return the mean of n >= 1 values with its 95 % Student interval."""
    values = np.asarray(values, float)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
    return Estimate(mean, float(low), float(high), n)


def differences(
    experiment: Experiment, deltas: Sequence[SeedDelta], bootstrap: CrossedBootstrap
) -> list[ArmDifference]:
    """Test every contrast in the outcomes of the bootstrap, over the seeds that both arms have.

    Contrasts with fewer than two such seeds are left out.
    """
    found = []
    for contrast in experiment.contrasts:
        intervals = bootstrap.difference(contrast.arm, contrast.against)
        for outcome in bootstrap.outcomes:
            first, second = (
                {delta.seed: delta.percent[outcome] for delta in deltas if delta.arm == arm}
                for arm in (contrast.arm, contrast.against)
            )
            paired = np.array([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])
            if len(paired) >= 2:
                enough = len(paired) >= SEEDS_FOR_P
                p = float(np.asarray(stats.ttest_1samp(paired, 0)[1])) if enough else float("nan")
                found.append((contrast, outcome, estimate(paired), intervals[outcome], p))
    adjusted = iter(holm([p for *_, p in found if not np.isnan(p)]))
    corrected = [p if np.isnan(p) else next(adjusted) for *_, p in found]
    return [
        ArmDifference(contrast.arm, contrast.against, contrast.question, outcome, value, interval, p, p_holm)
        for (contrast, outcome, value, interval, p), p_holm in zip(found, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's step-down procedure (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    The i-th smallest of n, counted from 0, becomes the largest of `min(1, (n - j) p_j)` over j <= i.

    Returns:
        The adjusted values in the order given.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _check_unique(tested: Sequence[TrialResult]) -> None:
    rates: dict[tuple[str, int], float] = {}
    for result in tested:
        other = rates.setdefault((result.arm, result.seed), result.lr)
        if other != result.lr:
            raise UserError(
                f"the result table has arm {result.arm}, seed {result.seed} with the learning rates {other:g} and"
                f" {result.lr:g}: remove the rows of one of them"
            )
