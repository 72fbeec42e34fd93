"""Comparisons of runs: which scores they are over, and what moves Delta_MTL."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page
from run_folders import in_another_world, make_run
from typer.testing import CliRunner

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.evaluate.micro_suite import chance
from polygen_stream.report import report
from polygen_stream.report.compare import comparison_page
from polygen_stream.report.run_data import read_run_data


def test_runs_are_compared_with_the_first(run_dir, tmp_path):
    folders = [make_run(tmp_path / f"run-{i}", seed=i, score=0.4 + 0.1 * i) for i in range(2)]
    result = CliRunner().invoke(app, ["report", *map(str, folders), "--out", str(tmp_path / "all.html")])
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "all.html").read_text())
    # 0.5 against 0.4 in each of three tasks; colours and composition stand apart.
    assert "+25.0 [" in page.words
    assert "over 3 of SynthCLIP's five tasks: zero-shot, image-to-text R@1, text-to-image R@1;" in page.words
    low, high = map(float, re.search(r"\+25\.0 \[([+-][\d.]+), ([+-][\d.]+)\]", page.words).groups())
    # each score's interval is +-0.05: the mean of three ratios of 0.5 to 0.4 has a standard error of 5.9 %
    assert (low, high) == pytest.approx((25 - 11.6, 25 + 11.6), abs=2.5)
    assert [tag for tag, _ in page.headings].count("h1") == 1
    assert "seconds in all" in page.words and page.words.count("61") >= 2 and "trainer waited since then" in page.words
    with pytest.raises(UserError, match="there is no folder"):
        CliRunner().invoke(app, ["report", *map(str, folders), "--out", "/nowhere/x.html"], catch_exceptions=False)
    (folders[1] / "eval.jsonl").unlink()
    with pytest.raises(UserError, match="no evaluation of a trained model"):
        CliRunner().invoke(app, ["report", *map(str, folders)], catch_exceptions=False)


def test_runs_with_all_five_tasks_are_compared_over_these(tmp_path):
    """Two datasets of one task count once, and what is none of the five does not count."""
    runs = []
    for i, value in enumerate((0.4, 0.5)):
        run = read_run_data(in_another_world(tmp_path / f"run-{i}", i, value))
        one = {"score": value, "low": value - 0.01, "high": value + 0.01, "n": 100, "chance": 0.1}
        same = one | {"score": 0.4}
        tables = {
            "zero_shot:a": {"acc1": one, "acc5": same},
            "zero_shot:b": {"acc1": one},
            "linear_probe:a": {"acc1": same},
            "few_shot:a": {"5_shot": same},
            "retrieval:a": {"i2t_r1": same, "i2t_r5": one, "t2i_r1": one},
            "sugarcrepe": {"mean": one},
        }
        runs.append(replace(run, tables=tables))
    page = Page(comparison_page(runs))
    assert "over SynthCLIP's five tasks;" in page.words
    assert "+10.0 [" in page.words  # two of five tasks rise by 25 %
    assert "sugarcrepe mean" in page.words


def test_runs_in_another_world_are_compared_by_their_tasks(tmp_path):
    runs = [read_run_data(in_another_world(tmp_path / f"run-{i}", i, 0.4 + 0.1 * i)) for i in range(2)]
    page = Page(comparison_page(runs))
    assert "+25.0 [" in page.words and "zero shot things" not in page.words


TRANSFER = {"score": 0.25, "low": 0.21, "high": 0.29, "n": 432, "chance": 1 / 24}


def change_evaluations(folder: Path, change) -> None:
    lines = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    for line in lines:
        change(line)
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_composition_and_transfer_are_shown_and_move_no_delta(tmp_path):
    """Delta_MTL does not depend on which machine had the pictures of `transfer`."""
    runs = []
    for i, acc1 in enumerate((0.25, 0.5)):
        folder = make_run(tmp_path / f"run-{i}", seed=i, score=0.4)

        def change(line, i=i, acc1=acc1):
            line["tasks"] = {"transfer": {"acc1": TRANSFER | {"score": acc1}}}
            line["metrics"]["micro_sugarcrepe_pp_itt"] = 0.3 + 0.1 * i

        change_evaluations(folder, change)
        runs.append(read_run_data(folder))
    words = Page(comparison_page(runs)).words
    for shown in ("transfer acc1", "25.0 [21.0, 29.0]", "50.0 [21.0, 29.0]", "micro SugarCrepe++ ITT", "40.0 [35.0"):
        assert shown in words, shown
    assert "+0.0 [" in words
    own = Page(report.write_report(runs[0].folder).read_text()).words
    for shown in ("transfer", "25.0 [21.0, 29.0]", "micro SugarCrepe++ ITT 30.0 %", "micro SugarCrepe++ TOT 40.0 %"):
        assert shown in own, shown
    assert "ITT asks that" in own


def test_evaluations_of_earlier_versions_are_shown_without_micro_sugarcrepe_pp(tmp_path):
    folder = make_run(tmp_path / "run")
    names = [name for name in chance() if name.startswith("micro_sugarcrepe_pp")]

    def change(line):
        for part in (line["metrics"], line["intervals"], line["chance"]):
            for name in names:
                part.pop(name)

    change_evaluations(folder, change)
    page = Page(report.write_report(folder).read_text())
    assert "compositional 60.0 %" in page.words and "SugarCrepe++" not in page.words and "ITT" not in page.words
    both = Page(comparison_page([read_run_data(folder), read_run_data(make_run(tmp_path / "new", 1))]))
    assert "compositional" in both.words and "SugarCrepe++" not in both.words


def test_correlations_appear_from_four_runs_on(run_dir):
    runs = [read_run_data(run_dir)] * 4
    assert "at least 4 runs" in comparison_page(runs)
