"""`status` and `report` on a run folder with a damaged file: they work without it, or end in one line that names it."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_folders import evaluation, metrics, write_lines

from polygen_stream.base.run_folder import RunFolder
from polygen_stream.cli import main
from polygen_stream.config import RunConfig, dump_config

STEPS = 12


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run that is over, without a model or images."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    dump_config(RunConfig(train={"steps": STEPS}), run.config)
    rng = np.random.default_rng(0)
    write_lines(run.metrics, (metrics(step, rng) for step in range(STEPS)))
    write_lines(run.eval_log, [evaluation(0, 0.1), evaluation(STEPS, 0.6)])
    write_lines(run.events, [{"time": "2026-01-31T12:00:00+0000", "event": "restart", "process": "captioner"}] * 2)
    run.provenance.write_text(json.dumps({"git": {"commit": "0123456789abcdef"}}))
    run.summary.write_text(json.dumps({"status": "completed", "seconds": 61.0}))
    return run


def cut(file: Path) -> None:
    """As a full disk leaves it."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def garbage(file: Path) -> None:
    """As a bad block leaves it."""
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = random.Random(0).randbytes(third)
    file.write_bytes(bytes(content))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def polygen_stream(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr. An exception that would end in a traceback fails the test."""
    monkeypatch.setattr(sys, "argv", ["polygen-stream", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("damage", [cut, garbage, empty])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("status", "metrics"),
        ("status", "eval_log"),
        ("status", "events"),
        *(pytest.param("report", name, marks=pytest.mark.extended) for name in ("metrics", "eval_log")),  # it plots
    ],
)
def test_damaged_lines_are_left_out(run, monkeypatch, capsys, command, damage, name):
    file = getattr(run, name)
    damage(file)
    code, stdout, stderr = polygen_stream(monkeypatch, capsys, command, run.path)
    assert code == 0 and stdout
    warnings = [line for line in stderr.splitlines() if line]
    assert len(warnings) <= 1
    if damage is garbage:
        assert warnings[0].startswith(f"warning: {file} is damaged: skipped ")
    if command == "report":
        assert run.report.stat().st_size > 10_000


@pytest.mark.parametrize("command", ["status", "report"])
@pytest.mark.parametrize("damage", [cut, garbage, empty])
def test_a_damaged_summary_is_named_in_one_line(run, monkeypatch, capsys, command, damage):
    damage(run.summary)
    code, _, stderr = polygen_stream(monkeypatch, capsys, command, run.path)
    assert code == 2
    assert stderr == (
        f"error: {run.summary} is damaged (it is not JSON): restore it, or delete it to go on without it\n"
    )


def test_what_it_advises_helps(run, monkeypatch, capsys):
    empty(run.summary)
    run.summary.unlink()
    code, stdout, _ = polygen_stream(monkeypatch, capsys, "status", run.path)
    assert code == 0 and "killed" in stdout, "without its summary nothing says how it ended"


@pytest.mark.parametrize("damage", [cut, garbage, empty])
@pytest.mark.parametrize("name", ["provenance", "analysis", "evaluation"])
def test_a_report_names_the_other_documents_too(run, monkeypatch, capsys, damage, name):
    run.evaluations.mkdir()
    file = run.evaluation(STEPS) if name == "evaluation" else getattr(run, name)
    file.write_text(json.dumps({"scores": {"micro": {}}, "about": "painted"}))
    damage(file)
    code, _, stderr = polygen_stream(monkeypatch, capsys, "report", run.path)
    assert code == 2
    assert stderr.startswith(f"error: {file} is damaged (it is not JSON)") and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("summary", "seconds", "61"), ("summary", "status", []), ("summary", "seconds_to_first_step", {}),
     ("provenance", "git", "0123456"), ("provenance", "git", {"commit": 7})],
)  # fmt: skip
def test_a_document_with_a_value_of_another_kind_is_named(run, monkeypatch, capsys, name, key, value):
    file = getattr(run, name)
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    code, _, stderr = polygen_stream(monkeypatch, capsys, "report", run.path)
    assert code == 2
    assert stderr.startswith(f"error: {file} is damaged (its {key} is a {type(value).__name__} that cannot be used)")


def mutations(record: dict) -> Iterator[dict]:
    """The record without one of its values, at any depth, and with another kind of value there."""
    for path in paths(record):
        for value in (None, "text", -1, 1e400, True, [], {}, {"text": "text"}, [1, 2], [[1, 2]]):
            changed = copy.deepcopy(record)
            *outer, last = path
            inner = changed
            for key in outer:
                inner = inner[key]
            if value is None:
                del inner[last]
            else:
                inner[last] = value
            yield changed


def paths(record: object) -> Iterator[tuple]:
    if isinstance(record, dict):
        for key, value in [*record.items()][:4]:  # the others are like them
            yield (key,)
            yield from ((key, *rest) for rest in paths(value))


@pytest.mark.parametrize("command", ["status", pytest.param("report", marks=pytest.mark.extended)])
@pytest.mark.parametrize("name", ["metrics", "eval_log"])
def test_lines_with_values_of_another_kind_are_left_out(run, monkeypatch, capsys, command, name):
    """Some of them are lines that nothing is wrong with; the last line is whole."""
    file = getattr(run, name)
    task = {"score": 0.5, "low": 0.4, "high": 0.6, "n": 10, "chance": None}
    whole = [json.loads(line) for line in file.read_text().splitlines()]
    if name == "eval_log":
        whole[-1] |= {"tasks": {"zero_shot:a": {"acc1": task}}, "failed": {"few_shot:b": "why"}}
    write_lines(file, [*mutations(whole[-1]), *whole])
    code, stdout, stderr = polygen_stream(monkeypatch, capsys, command, run.path)
    assert code == 0 and stdout, stderr
    assert stderr.startswith(f"warning: {file} is damaged: skipped ") and stderr.count("\n") == 1
