"""Delta_MTL over seeds, intervals, and Holm's correction, against numbers done by hand, by scipy or published."""

from __future__ import annotations

import numpy as np
import pytest
from results_rows import result
from scipy import stats

from polygen_stream.base.errors import UserError
from polygen_stream.experiment.bootstrap import CrossedBootstrap
from polygen_stream.experiment.results import COMPOSITION, TASKS, TrialResult
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.statistics import delta_by_seed, differences, estimate, holm


def row(arm: str, seed: int, score: float, composition: float = 0.5, phase: str = "test") -> TrialResult:
    return result(arm, seed, phase=phase, scores={COMPOSITION: composition} | dict.fromkeys(TASKS, score))


def experiment(*contrasts: tuple[str, str]) -> Experiment:
    arms = sorted({name for pair in contrasts for name in pair} | {"base"})
    return Experiment.model_validate(
        {
            "name": "x",
            "title": "X",
            "pool": {"seed": 0, "captions": 4, "generators": ["g"], "layers": [{"captions": 4}]},
            "steps": 1,
            "images_per_step": 2,
            "baseline": "base",
            "learning_rates": [1e-3],
            "arms": [{"name": name, "captions": 4, "positives": 1, "ensembles": [["g"]]} for name in arms],
            "contrasts": [{"arm": a, "against": b, "question": f"{a}?"} for a, b in contrasts],
        }
    )


def test_delta_is_the_paired_difference_in_units_of_the_baselines_mean():
    rows = [row("base", 0, 0.2), row("base", 1, 0.4), row("arm", 0, 0.3), row("arm", 1, 0.4)]
    deltas = {(d.arm, d.seed): d.percent["delta_mtl"] for d in delta_by_seed(rows, "base")}
    assert deltas["arm", 0] == pytest.approx(100 * 0.1 / 0.3)
    assert deltas["arm", 1] == pytest.approx(0.0)
    assert deltas["base", 0] == pytest.approx(0.0)


def test_trials_for_the_learning_rate_do_not_count():
    rows = [row("base", 0, 0.2), row("arm", 0, 0.2), row("arm", 1000, 0.9, phase="tune")]
    assert {d.seed for d in delta_by_seed(rows, "base")} == {0}


def test_a_seed_without_a_baseline_run_does_not_count():
    rows = [row("base", 0, 0.2), row("arm", 0, 0.3), row("arm", 5, 0.9)]
    assert [d.seed for d in delta_by_seed(rows, "base") if d.arm == "arm"] == [0]


def test_two_runs_of_one_seed_are_refused():
    rows = [row("base", 0, 0.2), row("arm", 0, 0.3), row("arm", 0, 0.3).model_copy(update={"lr": 0.002})]
    with pytest.raises(UserError, match=r"arm arm, seed 0 with the learning rates 0\.001 and 0\.002"):
        delta_by_seed(rows, "base")


def test_the_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = estimate(values)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((3.5, low, high, 4))


def test_one_seed_has_no_interval():
    assert np.isnan(estimate(np.array([1.0])).low)


def test_contrasts_are_paired_and_corrected_together():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0.5, 0.1, 8)  # what a seed does to all arms
    gains = {"base": 0.0, "good": 0.05, "same": 0.0}
    rows = [
        row(arm, seed, level + gain + rng.normal(0, 0.004), 0.7 + rng.normal(0, 0.01))
        for arm, gain in gains.items()
        for seed, level in enumerate(seeds)
    ]
    deltas = delta_by_seed(rows, "base")
    contrasts = experiment(("good", "base"), ("same", "base"))
    found = {(d.arm, d.outcome): d for d in differences(contrasts, deltas, CrossedBootstrap(rows, "base"))}
    good, same = found["good", "delta_mtl"], found["same", "delta_mtl"]
    by_arm = {arm: [d.percent["delta_mtl"] for d in deltas if d.arm == arm] for arm in gains}
    assert good.p == pytest.approx(stats.ttest_rel(by_arm["good"], by_arm["base"]).pvalue)
    assert good.p_holm < 0.001 and good.estimate.low > 0
    assert same.p_holm > 0.05 and same.estimate.low < 0 < same.estimate.high
    ordered = sorted(d.p for d in found.values())
    steps = np.maximum.accumulate([min(1.0, p * (4 - i)) for i, p in enumerate(ordered)])
    assert sorted(d.p_holm for d in found.values()) == pytest.approx(sorted(steps))


def test_an_arm_that_has_not_run_is_left_out():
    rows = [row("base", seed, 0.2 + 0.01 * seed) for seed in range(3)]
    bootstrap = CrossedBootstrap(rows, "base")
    assert differences(experiment(("good", "base")), delta_by_seed(rows, "base"), bootstrap) == []


def test_holms_correction_gives_the_values_of_rs_multtest():
    # mt.rawp2adjp of Bioconductor's multtest, as statsmodels' own tests quote it (stats/tests/test_multi.py).
    raw = [0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238, 0.177096952723,
           5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796]  # fmt: skip
    published = [1, 1, 1, 1, 1, 1, 5.23656777208e-04, 0.1419128821586, 2.53264555782e-03, 0.1199018486368]
    assert holm(raw) == pytest.approx(published, rel=1e-11)
    # Every adjusted value is at least that of a smaller p, also where the product falls: 2 * 0.03 > 1 * 0.04.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
