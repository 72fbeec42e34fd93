"""The worst edits as an outcome, on runs whose right answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from results_rows import result

from polygen_stream.evaluate.micro_suite import PICTURES_PER_EDIT
from polygen_stream.experiment.bootstrap import CrossedBootstrap
from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.page import page_text
from polygen_stream.experiment.results import COMPOSITION, ITEMS, SCORES, WORST
from polygen_stream.experiment.statistics import delta_by_seed, differences
from polygen_stream.experiment.worst_edits import accuracy_by_edit, with_worst_edits, worst_edits
from polygen_stream.micro.edits import EDITS

ROOT = Path(__file__).resolve().parents[3]
HARD = ("swap_object", "add_attribute", "replace_count")  # half of these is right for "uniform", 0.9 of the others


def rows(gain: float) -> list:
    """Three seeds of both arms; "hardest" gets `gain` more of HARD right than "uniform", and of nothing else."""
    found = []
    for arm, more in (("uniform", 0.0), ("hardest", gain)):
        for seed in range(3):
            share = {edit: 0.5 + more if edit in HARD else 0.9 for edit in EDITS}
            right = [np.arange(PICTURES_PER_EDIT) < round(share[edit] * PICTURES_PER_EDIT) for edit in EDITS]
            composition = np.concatenate(right)
            correct = {name: np.ones(40, bool) for name in ITEMS} | {COMPOSITION: composition}
            correct["micro_sugarcrepe_pp_itt"] = composition
            scores = dict.fromkeys(SCORES, 0.5) | {COMPOSITION: float(composition.mean())}
            found.append(result(arm, seed, scores=scores, correct=correct))
    return found


@pytest.fixture
def experiment():
    return load_experiment(ROOT / "configs" / "experiments" / "closed-loop.toml")


def test_the_worst_edits_are_those_of_all_arms_together(experiment):
    assert set(worst_edits(experiment, rows(0.2))) == set(HARD)
    mixed = [row for row in rows(0.4) if row.arm == "hardest"]
    assert worst_edits(experiment, mixed) != list(HARD)
    assert accuracy_by_edit(rows(0.2), "hardest")["swap_object"] == pytest.approx(0.7, abs=0.02)
    assert accuracy_by_edit(rows(0.2), "progress") == {}


def test_their_change_is_measured_beside_that_of_all_edits(experiment):
    found = with_worst_edits(experiment, rows(0.2))
    assert found[-1].scores[WORST] == pytest.approx(0.7, abs=0.02)
    deltas, bootstrap = delta_by_seed(found, "uniform"), CrossedBootstrap(found, "uniform")
    own = [delta.percent for delta in deltas if delta.arm == "hardest"]
    assert {round(percent[WORST]) for percent in own} == {40}
    assert own[0][COMPOSITION] < 10
    low, high = bootstrap.delta("hardest")[WORST]
    assert 15 < low < 40 < high < 75
    outcomes = {d.outcome: d for d in differences(experiment, deltas, bootstrap) if d.arm == "hardest"}
    assert set(outcomes) == {"delta_mtl", COMPOSITION, WORST}
    assert outcomes[WORST].estimate.mean == pytest.approx(40, abs=1)


def test_a_page_has_them_in_every_table_and_the_accuracy_by_edit(experiment):
    page = page_text(experiment, rows(0.2), {}, "command")
    assert (
        "The worst edits are those with the lowest mean over arms: " in page and "| swap object | 50.0 | 70.0 |" in page
    )
    assert "| more of the axes with small margins | hardest - uniform | worst edits | +40.0 [" in page


def test_an_experiment_that_does_not_ask_for_them_has_none(experiment):
    without = experiment.model_copy(update={"worst_edits": 0})
    assert all(WORST not in row.scores for row in with_worst_edits(without, rows(0.2)))
    assert "worst edits" not in page_text(without, rows(0.2), {}, "command")
