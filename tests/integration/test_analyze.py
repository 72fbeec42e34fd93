"""`analyze` on a run folder, with generators that draw."""

from __future__ import annotations

import json

import pytest
from run_folders import make_run
from typer.testing import CliRunner

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.config import dump_config, load_config
from polygen_stream.report.report import write_report


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "run")
    quick = {"generators.recipes": "micro/sdxl_turbo,micro/sana", "generators.backend": "eager"}
    dump_config(load_config(folder / "config.toml", quick), folder / "config.toml")
    return folder


def test_analyze_draws_the_runs_captions_and_its_figures_reach_the_report(run_dir, tmp_path):
    other = make_run(tmp_path / "other", seed=3)
    words = ["analyze", str(run_dir), "--captions", "8", "--seeds", "2", "--threads", "1", "--reference", str(other)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads((run_dir / "analysis.json").read_text())
    assert found["classes"] == "caption" and list(found["generators"]) == ["micro/sdxl_turbo", "micro/sana"]
    for figures in found["generators"].values():
        assert figures["pictures"] == 16
        # good pictures of the run's own captions: an oracle reads most of them
        assert figures["oracle"]["share"] > 0.4 and figures["oracle"]["n"] >= 14
        assert 0 <= figures["clip_score"]["mean"] <= 2.5
        assert -6 < figures["slope"] < -2 and len(figures["spectrum"]) == 17
    assert found["ensemble"]["pictures"] == 32
    assert set(found["invariance"]) == {"untrained", "trained", "content", "spectrum"}
    for told in ("the untrained model", "what is in the pictures", "their spectrum alone"):
        assert f"generator probe on {told}, %" in result.output
    page = write_report(run_dir).read_text()
    assert "8 captions of the run, drawn 2 times by every generator" in page
    assert "For comparison, on the same pictures: what is in the pictures" in page


def test_a_model_cannot_judge_what_it_learned_from(run_dir):
    with pytest.raises(UserError, match="itself trained"):
        CliRunner().invoke(app, ["analyze", str(run_dir), "--reference", str(run_dir)], catch_exceptions=False)
