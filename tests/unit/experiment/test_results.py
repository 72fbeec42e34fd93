"""The result table: what is written is read, and what is no table is refused in one line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from results_rows import result

from polygen_stream.base.errors import UserError
from polygen_stream.experiment import runner
from polygen_stream.experiment.items import items_path
from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.results import ITEMS, SCORES, TrialResult, read_results, write_results
from polygen_stream.experiment.spec import Experiment, settings_hash

TABLE1 = Path(__file__).resolve().parents[3] / "configs" / "experiments" / "table1.toml"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment(TABLE1)


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


def test_items_are_read_as_they_were_written(experiment, tmp_path):
    table = tmp_path / "table.csv"
    random = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        right = {name: random.random(37) < 0.5 for name in ITEMS}
        rows.append(of(experiment, "n1-m1", seed, correct=right | {"few_shot": random.random((5, 37)) < 0.5}))
    write_results([*rows, of(experiment, "n4-m4", 1000, phase="tune")], table)
    found = read_results(table, experiment)
    assert [len(row.correct) for row in found] == [len(ITEMS)] * 3 + [0]
    for written, read in zip(rows, found, strict=False):
        assert all(np.array_equal(read.correct[name], written.correct[name]) for name in ITEMS)
    first = items_path(table).read_bytes()
    assert len(first) < 3 * 60 + 1500  # 407 bits of each run, and the names
    write_results(found, table)
    assert items_path(table).read_bytes() == first


def test_a_run_that_is_in_one_file_and_not_in_the_other_is_done_again(experiment, tmp_path):
    """A kill between the two writes leaves such a run; so does a file from elsewhere."""
    table = tmp_path / "table.csv"
    rows = [of(experiment, "n1-m1", seed) for seed in range(2)]
    write_results(rows[:1], table)
    one = items_path(table).read_bytes(), table.read_bytes()
    write_results(rows, table)
    both = items_path(table).read_bytes(), table.read_bytes()

    def seeds(items: bytes, rows: bytes) -> list[int]:
        items_path(table).write_bytes(items)
        table.write_bytes(rows)
        return [found.seed for found in read_results(table, experiment)]

    assert seeds(both[0], one[1]) == seeds(one[0], both[1]) == [0]
    assert seeds(*both) == [0, 1]
    items_path(table).unlink()
    assert read_results(table, experiment) == []


@pytest.mark.parametrize(
    "damage", [lambda b: b[:40], lambda b: b"no file of items", lambda b: b.replace(b"runs", b"rums")]
)
def test_a_damaged_file_of_items_is_refused_in_one_line(experiment, tmp_path, damage):
    table = tmp_path / "table.csv"
    write_results([of(experiment, "n1-m1", 0)], table)
    items_path(table).write_bytes(damage(items_path(table).read_bytes()))
    with pytest.raises(UserError, match=r"table-items\.safetensors is damaged .*: remove it") as problem:
        read_results(table, experiment)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("n_positives", "n"), "line 2, n_positives: Field required"),
        (lambda text: text.rsplit(",", 14)[0] + "\n", "line 2, seconds: Field required"),
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
