"""Intervals of Delta_MTL and of contrasts over pools, seeds and test items: a crossed bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from polygen_stream.experiment.results import COMPOSITION, ITEMS, TASKS, WORST, TrialResult

DRAWS = 2000
PICTURES_PER_CAPTION_PAIR = 2  # they stand side by side (`micro_suite.EditedPairs`)
LEVEL = 0.95
Interval = tuple[float, float]
_ITEMS = {**ITEMS, WORST: WORST}


def outcomes_of(results: Sequence[TrialResult]) -> tuple[str, ...]:
    """Return the outcomes of which arms are compared: WORST is one if the test runs have it."""
    tested = [result for result in results if result.phase == "test"]
    worst = bool(tested) and all(WORST in result.scores for result in tested)
    return ("delta_mtl", COMPOSITION, WORST) if worst else ("delta_mtl", COMPOSITION)


class CrossedBootstrap:
    """Draws of the changes of arms over a baseline.

    Runs are nested in pools and crossed with test items: every run answers the same items. A draw therefore resamples
    the factors one by one and keeps every combination of what it drew, with its multiplicity (the pigeonhole bootstrap:
    Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1:386-411). It takes pools with replacement, if
    there are at least two; in each of them, seeds; and of each set of items, items, once for all runs and both arms.
    Arm and baseline are paired by seed. The statistic is `statistics.delta_by_seed`'s mean over seeds: per task
    100 * (mean of the arm - mean of the baseline on the same seeds) / (mean of the baseline), then the mean over tasks.
    An interval lies between the 2.5 % and 97.5 % quantiles of its draws.

    With many levels of each factor the intervals are a little wide (Owen 2007). With few they are narrow: n seeds or
    pools are resampled with (n - 1) / n of their variance, half of it with two pools. The two pictures of a caption
    pair of the compositional test are resampled together. Retrieval items are resampled as questions; their candidates
    stay all of the test set's.

    Args:
        results: rows of the table with `correct`; tuning trials do not count.
        baseline: the arm that changes are relative to.
        draws: how many.

    Attributes:
        outcomes: "delta_mtl", COMPOSITION and, if the results have it, WORST.
    """

    def __init__(self, results: Sequence[TrialResult], baseline: str, draws: int = DRAWS) -> None:
        self._baseline, self._draws = baseline, draws
        self.outcomes = outcomes_of(results)
        self._runs: dict[str, dict[int, TrialResult]] = {}
        for result in sorted(results, key=lambda r: r.seed):
            if result.phase == "test":
                self._runs.setdefault(result.arm, {})[result.seed] = result
        self._scores: dict[tuple[str, str], dict[int, np.ndarray]] = {}

    def delta(self, arm: str) -> dict[str, Interval]:
        """Return the intervals of an arm's change over the baseline in `outcomes`, in percent; NaN with one seed."""
        return self._intervals([arm])

    def difference(self, arm: str, against: str) -> dict[str, Interval]:
        """Return the intervals of the difference between two arms' changes, in points; NaN with one common seed."""
        return self._intervals([arm, against])

    def _intervals(self, arms: list[str]) -> dict[str, Interval]:
        reference = self._runs.get(self._baseline, {})
        seeds = [seed for seed in reference if all(seed in self._runs.get(arm, {}) for arm in arms)]
        if len(seeds) < 2:
            return dict.fromkeys(self.outcomes, (float("nan"), float("nan")))
        changes = [self._changes(arm, seeds) for arm in arms]
        found = {}
        for outcome in self.outcomes:
            drawn = changes[0][outcome] - changes[1][outcome] if len(changes) > 1 else changes[0][outcome]
            # A draw without a right answer of the baseline has no relative change.
            low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[outcome] = (float(low), float(high))
        return found

    def _changes(self, arm: str, seeds: list[int]) -> dict[str, np.ndarray]:
        """Return float [draws] of each of `outcomes`."""
        terms = {}
        weights, all_seeds = self._weights(seeds), list(self._runs[self._baseline])
        others = [outcome for outcome in self.outcomes if outcome != "delta_mtl"]
        for task in (*TASKS, *others):
            own, reference = self._drawn(arm, task), self._drawn(self._baseline, task)
            gain = _mean({seed: own[seed] - reference[seed] for seed in seeds}, weights)
            mean = _mean(reference, self._weights(all_seeds))
            terms[task] = 100 * gain / np.where(mean > 0, mean, np.nan)
        total = np.mean([terms[task] for task in TASKS], axis=0)
        return {"delta_mtl": total, **{outcome: terms[outcome] for outcome in others}}

    def _drawn(self, arm: str, task: str) -> dict[int, np.ndarray]:
        """Return the score of each run of an arm on the items of every draw: {seed: float [draws]}."""
        if (arm, task) not in self._scores:
            shares = self._item_shares[_ITEMS[task]]
            self._scores[arm, task] = {
                seed: shares @ run.correct[task].reshape(-1, shares.shape[1]).mean(0, dtype=np.float32)
                for seed, run in self._runs[arm].items()
            }
        return self._scores[arm, task]

    @cached_property
    def _item_shares(self) -> dict[str, np.ndarray]:
        """Of each set of items, the share of every item in every draw: float32 [draws, items]."""
        first = next(iter(self._runs[self._baseline].values()))
        random = np.random.default_rng(0)
        shares = {}
        for task, items in _ITEMS.items():
            if items not in shares and task in first.correct:
                together = PICTURES_PER_CAPTION_PAIR if items in ("edits", WORST) else 1
                n = first.correct[task].shape[-1] // together
                drawn = random.multinomial(n, np.full(n, 1 / n), self._draws) / (n * together)
                shares[items] = drawn.repeat(together, axis=1).astype(np.float32)
        return shares

    def _weights(self, seeds: list[int]) -> dict[int, np.ndarray]:
        """Return the weight of each seed in every draw, {seed: float [draws]}, the same at every call."""
        by_pool: dict[int, list[int]] = {}
        for seed in seeds:
            by_pool.setdefault(self._runs[self._baseline][seed].pool, []).append(seed)
        pools = [by_pool[pool] for pool in sorted(by_pool)]
        random = np.random.default_rng(1)
        counts = {seed: np.zeros(self._draws) for seed in seeds}
        chosen = random.integers(len(pools), size=(self._draws, len(pools)))  # one pool is always chosen
        for place in range(len(pools)):
            for number, members in enumerate(pools):
                drawn = random.multinomial(len(members), np.full(len(members), 1 / len(members)), self._draws)
                drawn *= (chosen[:, place] == number)[:, None]
                for column, seed in enumerate(members):
                    counts[seed] += drawn[:, column]
        total = np.sum(list(counts.values()), axis=0)
        return {seed: count / total for seed, count in counts.items()}


def _mean(scores: dict[int, np.ndarray], weights: dict[int, np.ndarray]) -> np.ndarray:
    """Return the weighted mean over seeds in every draw, float [draws]."""
    return np.sum([weight * scores[seed] for seed, weight in weights.items()], axis=0)
