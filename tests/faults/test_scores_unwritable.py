"""A run whose eval.jsonl can be written no more trains to its end, and its scores are made up for once it can be."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import another_user
import pytest
from launched_runs import TOY, Launched

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder

LONG = ("--train.steps", "120", "--captions.target", "0", "--evaluate.every", "20", "--launch.restarts", "1")
Start = Callable[..., Launched]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts or resumes toy runs that may do no more than permissions say. start(verb, *overrides, run_dir)."""
    started: list[Launched] = []

    def launch(verb: str, *words: str, run_dir: Path | None = None) -> Launched:
        command = [sys.executable, another_user.__file__, sys.executable, str(TOY), verb]
        started.append(Launched(tmp_path / str(len(started)), command, words, run_dir))
        return started[-1]

    yield launch
    for run in started:
        run.close()


def folder_in_its_place(file: Path) -> Callable[[], object]:
    """Spoils eval.jsonl, as the functions below; what is returned mends it."""
    kept = file.rename(file.with_name("kept"))
    file.mkdir()

    def mend() -> None:
        file.rmdir()
        kept.rename(file)

    return mend


def closed(file: Path) -> Callable[[], object]:
    file.chmod(0)
    return lambda: file.chmod(0o644)


def read_only(file: Path) -> Callable[[], object]:
    file.chmod(0o444)
    return lambda: file.chmod(0o644)


def content(run_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != "eval.jsonl"}


def assert_refused(start: Start, file: Path, reason: str) -> None:
    before = content(file.parent)
    again = start("resume", run_dir=file.parent)
    assert again.wait() == 2
    assert again.stderr == f"error: cannot read {file}: {reason}\n" and again.stdout == ""
    assert content(file.parent) == before, "nothing is cut, removed or put aside"


@pytest.mark.parametrize(
    ("spoil", "unreadable"),
    [(folder_in_its_place, "Is a directory"), (closed, "Permission denied"), (read_only, "")],
)
def test_training_goes_on_and_the_scores_are_made_up_for(start: Start, spoil: Callable, unreadable: str):
    run = start("supervise", *LONG)
    scores = RunFolder(run.run_dir).eval_log
    run.wait_until(
        lambda: scores.exists() and scores.stat().st_size > 0 and run.steps() > 5, "the first scores and five steps"
    )
    mend = spoil(scores)
    assert run.wait(120) == 0, run.stderr
    assert run.steps() == 120 and run.summary["status"] == "completed" and "Traceback" not in run.stderr
    [lost] = run.summary["missing"]
    assert lost["what"] == "scores of the final checkpoint" and str(scores) in lost["why"]
    assert f"warning: no scores of the final checkpoint: {lost['why']}" in run.stderr
    no_summary = (
        f"warning: no summary: cannot read {scores}: {unreadable}\n  to make up for it: polygen-stream run --res"
    )
    assert (no_summary in run.stderr) == bool(unreadable)
    run.assert_nothing_left()

    if unreadable:
        assert_refused(start, scores, unreadable)
    mend()
    before = scores.read_text()
    again = start("resume", run_dir=run.run_dir)
    assert again.wait() == 0, again.stderr
    assert again.summary["missing"] == [] and again.summary["steps"] == 120 and again.stderr == ""
    assert again.summary["evaluation"]["trained"]["zero_shot_things"] == 0.5
    assert scores.read_text().startswith(before) and [*read_jsonl(scores)][-1]["final"]


@pytest.mark.parametrize(("spoil", "reason"), [(folder_in_its_place, "Is a directory"), (closed, "Permission denied")])
def test_a_resume_is_refused_until_the_scores_can_be_read(start: Start, spoil: Callable, reason: str):
    run = start("supervise", *LONG)
    scores = RunFolder(run.run_dir).eval_log
    run.wait_until(
        lambda: scores.exists() and scores.stat().st_size > 0 and run.steps() > 5, "the first scores and five steps"
    )
    run.process("supervisor").send_signal(signal.SIGTERM)
    assert run.wait() == 128 + 15
    mend = spoil(scores)
    assert_refused(start, scores, reason)
    mend()
    again = start("resume", run_dir=run.run_dir)
    assert again.wait(120) == 0, again.stderr
    assert [line["step"] for line in read_jsonl(again.run_dir / "metrics.jsonl")] == list(range(120))
    assert again.summary["missing"] == [] and next(read_jsonl(scores))["step"] == 0
