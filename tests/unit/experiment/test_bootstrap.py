"""The crossed bootstrap on runs whose true change is known."""

from __future__ import annotations

import numpy as np
import pytest
from results_rows import result

from polygen_stream.experiment.bootstrap import CrossedBootstrap
from polygen_stream.experiment.results import COMPOSITION, ITEMS, TrialResult
from polygen_stream.experiment.statistics import delta_by_seed

N = 150
LEVELS = {"base": 0.5, "arm": 0.6}


def runs(
    random: np.random.Generator,
    *,
    seeds: int = 12,
    by_item: float,
    by_seed: float,
    pools: int = 1,
    by_pool: float = 0.0,
) -> list[TrialResult]:
    """Runs that get an item right with their arm's probability, plus what item, seed and pool add to it.

    Args:
        random: draws everything.
        seeds: of each arm.
        by_item: half-width of what an item adds, for all runs of an arm alike.
        by_seed: half-width of what a run adds.
        pools: seeds take turns with them.
        by_pool: half-width of what a pool adds to the runs of "arm".
    """
    item = {(arm, name): by_item * random.uniform(-1, 1, N) for arm in LEVELS for name in ITEMS}
    pool = by_pool * random.uniform(-1, 1, pools)
    rows = []
    for arm, level in LEVELS.items():
        for seed in range(seeds):
            own = level + by_seed * random.uniform(-1, 1) + (pool[seed % pools] if arm == "arm" else 0.0)
            right = {name: random.random(N) < own + item[arm, name] for name in ITEMS}
            scores = {name: float(correct.mean()) for name, correct in right.items()}
            rows.append(result(arm, seed, pool=seed % pools, scores=scores, correct=right))
    return rows


def width(rows: list[TrialResult]) -> float:
    low, high = CrossedBootstrap(rows, "base").delta("arm")["delta_mtl"]
    return high - low


def test_the_interval_covers_the_true_change_about_95_times_in_100():
    random = np.random.default_rng(0)
    hits = []
    for _ in range(120):
        rows = runs(random, seeds=30, by_item=0.35, by_seed=0.05)
        intervals = CrossedBootstrap(rows, "base", draws=300).delta("arm")
        hits.append([low < 100 * (0.6 - 0.5) / 0.5 < high for low, high in intervals.values()])
    assert 0.93 < np.mean(hits) < 0.98


def test_items_that_all_runs_find_hard_widen_the_interval():
    # The same share of right answers either way; which items they are is the same for all runs, or another each time.
    same, other = (
        np.mean([width(runs(np.random.default_rng(k), by_item=item, by_seed=0.0)) for k in range(5)])
        for item in (0.5, 0.0)
    )
    # Variance per item: 0.083 + 3 * 0.167 / 12 against 3 * 0.25 / 12; the 3 is the pigeonhole bootstrap's own.
    assert same / other == pytest.approx((0.125 / 0.0625) ** 0.5, rel=0.15)


def test_seeds_and_pools_that_differ_widen_the_interval():
    def mean_width(**spread: float) -> float:
        return float(np.mean([width(runs(np.random.default_rng(k), by_item=0.1, pools=4, **spread)) for k in range(5)]))

    plain = mean_width(by_seed=0.0)
    assert mean_width(by_seed=0.2) > 1.5 * plain
    assert mean_width(by_seed=0.0, by_pool=0.2) > 1.5 * plain


def test_pools_are_drawn_whole():
    """The same runs as of one pool: the interval forgets that the seeds of a pool go together."""
    rows = runs(np.random.default_rng(0), by_item=0.0, by_seed=0.0, pools=4, by_pool=0.3)
    assert width(rows) > 1.3 * width([row.model_copy(update={"pool": 0}) for row in rows])


def test_an_interval_is_about_the_change_that_the_table_says():
    rows = runs(np.random.default_rng(1), by_item=0.3, by_seed=0.1)
    bootstrap = CrossedBootstrap(rows, "base")
    for outcome, (low, high) in bootstrap.delta("arm").items():
        mean = np.mean([delta.percent[outcome] for delta in delta_by_seed(rows, "base") if delta.arm == "arm"])
        assert low < mean < high
        assert (low + high) / 2 == pytest.approx(mean, abs=0.2 * (high - low))
    assert bootstrap.difference("arm", "base") == bootstrap.delta("arm")
    assert CrossedBootstrap(rows, "base").delta("arm") == bootstrap.delta("arm")  # the same draws every time


def test_both_arms_answer_the_same_drawn_items_with_the_same_drawn_seeds():
    """Two arms that are right on the same items differ by nothing, however much items and seeds vary."""
    rows = runs(np.random.default_rng(2), by_item=0.4, by_seed=0.2)
    twins = [row.model_copy(update={"arm": "twin"}) for row in rows if row.arm == "arm"]
    for low, high in CrossedBootstrap([*rows, *twins], "base").difference("arm", "twin").values():
        assert low == high == 0


def test_one_common_seed_has_no_interval():
    rows = [
        row for row in runs(np.random.default_rng(3), by_item=0.1, by_seed=0.1) if row.arm == "base" or not row.seed
    ]
    assert np.isnan(CrossedBootstrap(rows, "base").delta("arm")[COMPOSITION]).all()


def test_a_draw_without_a_right_answer_of_the_baseline_does_not_break_the_interval():
    rows = [result("base", seed, scores=dict.fromkeys(ITEMS, 0.01)) for seed in range(2)]
    rows += [result("arm", seed, scores=dict.fromkeys(ITEMS, 0.02)) for seed in range(2)]
    low, high = CrossedBootstrap(rows, "base").delta("arm")["delta_mtl"]
    assert np.isfinite([low, high]).all()
