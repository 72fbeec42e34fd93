"""The result table: what is written is read, and what is no table is refused in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from results_rows import result

from polygen_stream.base.errors import UserError
from polygen_stream.experiment import runner
from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.results import SCORES, TrialResult, read_results, write_results
from polygen_stream.experiment.spec import Experiment, settings_hash

REUSE = Path(__file__).resolve().parents[3] / "configs" / "experiments" / "reuse.toml"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment(REUSE)


def of(experiment: Experiment, arm: str, seed: int, **changes) -> TrialResult:
    return result(arm, seed, settings=settings_hash(experiment, experiment.arm(arm)), **changes)


def test_a_table_is_read_as_it_was_written_sorted_and_rounded(experiment, tmp_path):
    table = tmp_path / "results" / "table.csv"
    scores = {name: 0.1234567891 * (i + 1) for i, name in enumerate(SCORES)}
    rows = [of(experiment, arm, seed, scores=scores) for seed in (1, 0) for arm in ("n4-m4", "n1-m1")]
    tuned = of(experiment, "n4-m4", 1000, phase="tune", validation=0.1, final_loss=math.nan)
    write_results([tuned, *rows], table)
    assert not list(table.parent.glob("*partial*"))
    first = table.read_text()
    assert ",0.123457,0.246914," in first and "nan" not in first
    found = read_results(table, experiment)
    assert [(r.phase, r.arm, r.seed) for r in found] == [
        ("test", "n1-m1", 0), ("test", "n1-m1", 1), ("test", "n4-m4", 0), ("test", "n4-m4", 1), ("tune", "n4-m4", 1000)
    ]  # fmt: skip
    assert found[0].scores == pytest.approx(scores, rel=1e-5) and found[0].images_seen == rows[0].images_seen
    assert found[-1].scores == {} and math.isnan(found[-1].final_loss)
    write_results(found, table)
    assert table.read_text() == first


def test_rows_of_other_settings_are_left_out(experiment, tmp_path):
    table = tmp_path / "table.csv"
    write_results([of(experiment, "n1-m1", 0), result("n1-m1", 1, settings="0123456789"), result("gone", 0)], table)
    assert [r.seed for r in read_results(table, experiment)] == [0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("n_positives", "n"), "line 2, n_positives: Field required"),
        (lambda text: text.rsplit(",", 12)[0] + "\n", "line 2, seconds: Field required"),
        (lambda text: text.replace(",32000,", ",many,", 1), "line 2, images_seen: Input should be a valid integer"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(experiment, tmp_path, damage, said):
    table = tmp_path / "table.csv"
    write_results([of(experiment, "n1-m1", 0)], table)
    table.write_text(damage(table.read_text()))
    with pytest.raises(UserError, match=said) as problem:
        read_results(table, experiment)
    assert "\n" not in str(problem.value) and "is not a result table" in str(problem.value)


def test_a_file_that_is_not_text_is_refused(experiment, tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UserError, match=r"the result table .*table\.csv is not UTF-16"):
        read_results(tmp_path / "table.csv", experiment)


def test_trials_are_all_rates_and_then_all_seeds_with_the_best_rate(experiment):
    several = experiment.model_copy(update={"learning_rates": (1e-3, 2e-3, 3e-3)})
    asked = [(t.arm, t.lr) for t in runner.tuning_trials(several, [])]
    assert asked == [(arm.name, lr) for lr in several.learning_rates for arm in several.arms]
    assert list(runner.tuning_trials(experiment, [])) == []
    validation = {1e-3: 0.5, 2e-3: 0.5, 3e-3: math.nan}
    tuned = [
        of(experiment, arm.name, 1000, phase="tune", lr=lr, validation=score)
        for arm in experiment.arms
        for lr, score in reversed(validation.items())
    ]
    assert runner.best_learning_rate(several, tuned, "n1-m1") == 1e-3  # the smallest of equal ones; never a NaN
    trials = list(runner.test_trials(several, tuned))
    assert {t.lr for t in trials} == {1e-3} and {t.phase for t in trials} == {"test"}
    assert [t.seed for t in trials] == sorted(t.seed for t in trials)
