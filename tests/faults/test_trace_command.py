"""`polygen-stream trace` on toy runs: one file of what all processes did, across deaths and a resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.launch.watch.trace_export import write_trace

TRACED = ("--launch.trace", "true", "--captions.target", "60")


def events(run_dir: Path, out: Path) -> list[dict]:
    """By the command, as JSON says it; well-formed or the test fails."""
    command = [sys.executable, "-m", "polygen_stream", "trace", str(run_dir), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["traceEvents"]
    assert done.stdout == f"{sum(event['ph'] == 'X' for event in found)} spans in {out}\n"
    assert {event["ph"] for event in found} <= {"X", "C", "M", "i"}
    assert all(event["ts"] >= 0 for event in found if event["ph"] != "M")
    tracks = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        assert all(end <= start + 0.01 for (_, end), (start, _) in pairwise(spans))
    return found


def test_a_run_in_which_a_process_died_and_that_was_resumed(start_toy, resume_toy, tmp_path):
    run = start_toy(*TRACED, "--train.steps", "400")
    run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process("renderer-micro-sana").kill()
    traces = run.run_dir / "trace"
    run.wait_until(lambda: len(list(traces.glob("renderer-micro-sana.*"))) == 2, "a restart")
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    resumed = resume_toy(run, TOY_STEP_S="0.002")
    assert resumed.wait() == 0
    found = events(run.run_dir, tmp_path / "trace.json")
    names = {event["pid"]: event["args"]["name"].split(" (")[0] for event in found if event["name"] == "process_name"}
    assert set(names.values()) == {
        "supervisor", "trainer", "captioner", "renderer-micro-sd15", "renderer-micro-sana", "evaluator", "report",
    }  # fmt: skip
    assert list(names.values()).count("renderer-micro-sana") == 3
    assert list(names.values()).count("supervisor") == 2
    did = {names[event["pid"]]: event["name"] for event in found if event["ph"] == "X"}
    assert did["trainer"] and did["renderer-micro-sd15"]
    charts = {event["name"] for event in found if event["ph"] == "C"}
    assert charts == {"captions in the ring", "backlog", "free slots"}
    counts = next(event["args"] for event in found if event["name"] == "captions in the ring")
    assert counts.keys() == {"plain, open", "plain, complete", "pair, open", "pair, complete"}
    happened = [event["name"] for event in found if event["ph"] == "i"]
    assert happened == ["restart", "resume"]
    # All on one clock: the trainer's spans lie within the supervisor's counters, give or take a start and an end.
    training = [event["ts"] for event in found if event["ph"] == "X" and names[event["pid"]] == "trainer"]
    watching = [event["ts"] for event in found if event["ph"] == "C"]
    assert min(watching) - 30e6 < min(training) and max(training) < max(watching) + 30e6


def test_a_run_that_was_not_traced_says_how_to(start_toy, tmp_path):
    run = start_toy("--captions.target", "60")
    assert run.wait() == 0
    assert not (run.run_dir / "trace").exists()
    with pytest.raises(UserError, match=r"has no trace: start or resume it with launch.trace = true"):
        write_trace(run.run_dir, tmp_path / "trace.json")
    with pytest.raises(UserError, match="is no run folder"):
        write_trace(tmp_path, tmp_path / "trace.json")
    (run.run_dir / "trace").mkdir()
    (run.run_dir / "trace" / "trainer.1.jsonl").write_text(
        json.dumps({"process": "trainer", "pid": 1, "clock": 0, "time": 0, "boot": "x"}) + "\n"
    )
    with pytest.raises(UserError, match=r"cannot write .*nowhere.*choose another --out"):
        write_trace(run.run_dir, tmp_path / "nowhere" / "trace.json")
