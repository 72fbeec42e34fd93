"""The pages of experiments: the committed ones are what the command writes, and an unfinished table has one too."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_rows import result

from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.page import page_text, write_page
from polygen_stream.experiment.reserved import ReservedCount, counts_path, read_counts
from polygen_stream.experiment.results import SCORES, read_results

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path.stem for path in (ROOT / "configs" / "experiments").glob("*.toml") if path.stem != "pool")


@pytest.mark.parametrize("name", SHIPPED)
def test_committed_pages_are_what_the_command_writes_or_say_that_they_are_older(name: str):
    experiment = load_experiment(ROOT / "configs" / "experiments" / f"{name}.toml")
    table = ROOT / "docs" / "results" / f"{name}.csv"
    committed = table.with_suffix(".md").read_text()
    results, counts = read_results(table, experiment), read_counts(counts_path(table), experiment)
    if not results:
        assert committed.splitlines()[2].startswith("> **Measured with an earlier version** (commit ")
        return
    text = page_text(experiment, results, counts, f"polygen-stream experiment configs/experiments/{name}.toml")
    assert text == committed


@pytest.mark.parametrize("plot", ["grid", "bars"])
def test_a_page_of_the_first_runs_has_those_and_a_plot(plot: str, tmp_path: Path):
    experiment = load_experiment(ROOT / "configs" / "experiments" / "table1.toml").model_copy(update={"plot": plot})
    scores = {score: 0.5 for score in SCORES}
    results = [result("n1-m1", 0, scores=scores), result("n1-m1", 1, scores=scores), result("n4-m4", 1, scores=scores)]
    page = write_page(experiment, results, {}, tmp_path, "command").read_text()
    assert "| n1-m1 | 50.0 ± 0.0 |" in page
    assert "| n4-m4 | 50.0 |" in page and "nan" not in page.split("Scores in percent")[1]
    assert "| n4-m1 |" not in page
    assert (tmp_path / "table1.png").stat().st_size > 10_000


def test_a_page_says_how_many_images_show_a_reserved_combination(tmp_path: Path):
    experiment = load_experiment(ROOT / "configs" / "experiments" / "table1.toml")
    results = [result("n1-m1", seed, scores=dict.fromkeys(SCORES, 0.5)) for seed in range(2)]
    counts = {"micro/sd15": ReservedCount(images=3000, sure=2000, reserved=150)}
    assert "| micro/sd15 | 3,000 | 2,000 | 150 (7.5%) |" in page_text(experiment, results, counts, "command")
    assert "reserved" not in page_text(experiment, results, {}, "command")


def test_a_page_has_the_bootstrap_and_the_t_interval_of_a_contrast(tmp_path: Path):
    experiment = load_experiment(ROOT / "configs" / "experiments" / "table1.toml")
    results = [
        result(arm, seed, scores=dict.fromkeys(SCORES, score + 0.01 * seed * (arm == "n4-m4")))
        for arm, score in (("n1-m1", 0.5), ("n4-m4", 0.6))
        for seed in range(3)
    ]
    page = page_text(experiment, results, {}, "command")
    row = next(line for line in page.splitlines() if "n4-m4 - n1-m1 | Delta_MTL" in line)
    difference, t_interval = row.split(" | ")[3:5]
    assert difference.startswith("+22.0 [+") and t_interval == "[+17.0, +27.0]"


def test_two_seeds_have_no_p_value(tmp_path: Path):
    """Their difference is the same to the last digit: a t test would find p = 0."""
    experiment = load_experiment(ROOT / "configs" / "experiments" / "table1.toml")
    results = [
        result(arm, seed, scores=dict.fromkeys(SCORES, score))
        for arm, score in (("n1-m1", 0.5), ("n4-m4", 0.6))
        for seed in range(2)
    ]
    page = page_text(experiment, results, {}, "command")
    [row, _] = [line for line in page.splitlines() if "n4-m4 - n1-m1 |" in line]
    assert row.endswith(" | - | 2 | - | - |"), row
