"""How a run that is over ended, by what its folder says and not by the times of its files."""

from __future__ import annotations

import json
import os

import pytest

from polygen_stream.config import RunConfig, dump_config
from polygen_stream.launch.watch.status_query import status_of

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


def test_a_run_without_a_summary_was_killed(tmp_path):
    dump_config(RunConfig(), tmp_path / "config.toml")
    assert status_of(tmp_path)["state"] == "killed"
