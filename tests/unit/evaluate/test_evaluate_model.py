"""`evaluate` as a command: what it checks first, what it says it read, and that no score that was computed is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app
from polygen_stream.config import RunConfig, dump_config
from polygen_stream.evaluate import evaluate_model
from polygen_stream.train.checkpoint import save_checkpoint
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run folder with a checkpoint, in a folder with a table of edits, t.tsv."""
    torch.manual_seed(0)
    config = RunConfig()
    model, _ = create_clip("micro")
    optimizer = build_optimizer(model, config.train)
    folder = tmp_path / "run"
    save_checkpoint(folder, step=3, final=True, config=config, model=model, optimizer=optimizer, curriculum={}, data={})
    dump_config(config, folder / "config.toml")
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    (tmp_path / "t.tsv").write_text("image\tcaption\tnegative\n0.png\ta cat\ta dog\n")
    monkeypatch.chdir(tmp_path)
    return folder


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def refused(*words: object) -> str:
    result = evaluate(*words)
    assert isinstance(result.exception, UserError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def stored(file: Path) -> dict:
    return json.loads(file.read_text())


def test_the_scores_and_what_was_read_are_shown_and_written(run):
    result = evaluate(run, "--tasks", "edits:t.tsv", "--json", "mine.json")
    assert result.exit_code == 0, result.output
    assert "read t.tsv: 1 row of t.tsv" in result.output
    found = stored(Path("mine.json"))
    assert found["read"] == {"t.tsv": ["1 row of t.tsv"]} and found["scores"]["edits:t.tsv"]["all"]["n"] == 1
    assert stored(run / "evaluations" / "step_000003.json") == found


def test_what_cannot_be_written_is_said_before_a_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(evaluate_model, "load_encoder", lambda *_: pytest.fail("it computes"))
    assert "cannot write /proc/mine.json" in refused(run, "--tasks", "edits:t.tsv", "--json", "/proc/mine.json")
    (run / "evaluations").mkdir()
    (run / "evaluations" / "step_000003.json").write_text("")
    assert "step_000003.json is damaged (it is not JSON)" in refused(
        run, "--tasks", "edits:t.tsv", "--json", "mine.json"
    )


@pytest.mark.parametrize("words", [(), ("--json", "mine.json")])
def test_a_run_that_cannot_be_written_gives_scores_all_the_same(run, words):
    (run / "evaluations").symlink_to("/proc/self")
    result = evaluate(run, "--tasks", "edits:t.tsv", *words)
    assert result.exit_code == 0, result.output
    assert "the scores will not be kept in the run: cannot write" in result.output
    assert "edits:t.tsv" in result.output
    assert not words or stored(Path("mine.json"))["scores"]["edits:t.tsv"]


def test_a_task_that_fails_takes_no_scores_of_others_with_it(run):
    assert "there is no file nowhere.tsv" in refused(
        run, "--tasks", "edits:t.tsv,edits:nowhere.tsv", "--json", "mine.json"
    )
    for file in (Path("mine.json"), run / "evaluations" / "step_000003.json"):
        assert list(stored(file)["scores"]) == ["edits:t.tsv"]


def test_one_file_that_cannot_be_written_leaves_the_other(run, monkeypatch):
    monkeypatch.setattr(evaluate_model, "check_writable", lambda *_, **__: None)  # the disk fills while it computes
    assert "cannot write /proc/mine.json" in refused(run, "--tasks", "edits:t.tsv", "--json", "/proc/mine.json")
    assert stored(run / "evaluations" / "step_000003.json")["scores"]["edits:t.tsv"]
    (run / "evaluations" / "step_000003.json").unlink()
    (run / "evaluations").rmdir()
    (run / "evaluations").symlink_to("/proc/self")
    assert "cannot write" in refused(run, "--tasks", "edits:t.tsv", "--json", "mine.json")
    assert stored(Path("mine.json"))["scores"]["edits:t.tsv"]


def test_a_dataset_may_be_called_like_markup(run):
    table = Path("[red]x[/blue].tsv")
    table.parent.mkdir()
    table.write_text(Path("t.tsv").read_text().replace("0.png", "../0.png"))
    result = evaluate(run, "--tasks", f"edits:{table}")
    assert result.exit_code == 0 and "[red]x[/blue].tsv" in result.output.replace("\n", "")


def test_the_kind_of_a_path_that_a_task_cannot_use_is_named(run, tmp_path):
    assert "t.tsv is a file: classes need a folder" in refused(run, "--tasks", "zero_shot:t.tsv")
    assert f"{tmp_path} is a folder: retrieval needs a table" in refused(run, "--tasks", f"retrieval:{tmp_path}")
    assert "{x}/cifar10" in refused(run, "--data", "{x}", "--tasks", "zero_shot:cifar10")
