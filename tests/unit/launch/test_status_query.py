"""How a run that is over ended, by what its folder says and not by the times of its files."""

from __future__ import annotations

import io
import json
import os

import pytest
from rich.console import Console

from polygen_stream.config import RunConfig, dump_config, load_config
from polygen_stream.launch.watch.status_query import status_of
from polygen_stream.launch.watch.status_report import show_status

RESUME = {"event": "resume", "step": 7}


@pytest.mark.parametrize(
    ("resumed", "resumes", "state"),
    [(0, 0, "completed"), (2, 2, "completed"), (1, 0, "killed")],  # of the last, the summary is an earlier attempt's
)
def test_a_copy_without_its_times(tmp_path, resumed, resumes, state):
    dump_config(RunConfig(), tmp_path / "config.toml")
    (tmp_path / "summary.json").write_text(json.dumps({"status": "completed", "resumes": [RESUME] * resumes}))
    (tmp_path / "provenance.json").write_text(json.dumps({"resumed": [{}] * resumed} if resumed else {}))
    for order in (("summary", "provenance"), ("provenance", "summary")):
        for age, name in enumerate(order):
            os.utime(tmp_path / f"{name}.json", (10**9 + age, 10**9 + age))
        assert status_of(tmp_path)["state"] == state


def test_the_wait_for_the_first_batch_is_shown_apart(tmp_path):
    dump_config(RunConfig(), tmp_path / "config.toml")
    lines = [
        {"step": step, "time": step, "wait_s": 18.0 if step == 0 else 0.5, "step_s": 1.5, "loss": 4.0}
        for step in range(5)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, screen = status_of(tmp_path), io.StringIO()
    show_status(found, Console(file=screen, width=140))
    assert (found["trainer_wait_share"], found["trainer_first_batch_wait_s"]) == (0.25, 18.0)
    assert "25 % of the last 4 steps" in screen.getvalue()
    assert "18.0 s for the first batch, then 25 %" in screen.getvalue()


def test_a_run_without_a_summary_was_killed(tmp_path):
    dump_config(RunConfig(), tmp_path / "config.toml")
    assert status_of(tmp_path)["state"] == "killed"


def shown(folder) -> str:
    screen = io.StringIO()
    show_status(status_of(folder), Console(file=screen, width=200))
    return screen.getvalue()


def test_the_newest_scores_are_shown(tmp_path):
    dump_config(RunConfig(), tmp_path / "config.toml")
    score = {"score": 0.25, "low": 0.2, "high": 0.3, "n": 400, "chance": 0.25}
    lines = [
        {
            "step": step,
            "final": False,
            "metrics": {"zero_shot_things": share},
            "tasks": {"pairs:/my_t.tsv": {"text": score}},
        }
        for step, share in ((0, 0.04), (400, 0.5))
    ]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert status_of(tmp_path)["evaluation"] == {
        "step": 400, "scores": {"zero_shot_things": 0.5, "pairs:/my_t.tsv text": 0.25},
    }  # fmt: skip
    assert "step 400: zero shot things 50.0 %, pairs:/my_t.tsv text 25.0 %" in shown(tmp_path)


def test_a_run_without_scores_says_why_and_what_it_lacks(tmp_path):
    dump_config(
        load_config(None, {"captions.source": "my:source", "captions.bank": "english"}), tmp_path / "config.toml"
    )
    assert "no scores: captions.bank = 'english' has no test set of its own" in shown(tmp_path)
    lost = {"what": "report", "why": "report died", "command": "polygen-stream report RUN"}
    (tmp_path / "summary.json").write_text(json.dumps({"status": "completed", "missing": [lost]}))
    assert "no report: report died; to make up for it: polygen-stream report RUN" in shown(tmp_path)
