"""Processes that die are restarted up to launch.restarts times; then a run goes on without them, or ends."""

from __future__ import annotations

import json
import signal
import time

import pytest

from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.launch.watch.inspect_client import open_inspected
from polygen_stream.ring.stats import ring_stats

LIMIT_S = 200.0  # on a machine that is busy with something else every start takes seconds
LONG = ("--train.steps", "120", "--captions.target", "0", "--train.checkpoint_every", "10", "--evaluate.every", "0")


def steps_of(run) -> list[int]:
    return [json.loads(line)["step"] for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]


def rendered_by_sana(run) -> int:
    """Pictures in all of the run, asked for while it is running; an answer takes up to a second."""
    return ring_stats(open_inspected(run.run_dir).state).images_committed["micro/sana"] if run.steps() else 0


def test_producers_and_evaluator_come_back(start_toy):
    run = start_toy(*LONG, TOY_STEP_S="0.2")
    victims = ["captioner", "renderer-micro-sana", "evaluator", "renderer-micro-sana"]
    for number, victim in enumerate(victims):
        before, rendered = run.steps(), rendered_by_sana(run)
        run.wait_until(lambda: run.steps() > before + 5, "five steps")  # noqa: B023
        run.wait_until(lambda: rendered_by_sana(run) > rendered, "a picture by SANA")  # noqa: B023
        run.process(victim).send_signal(signal.SIGKILL)
        run.wait_until(lambda: number < len(run_events(run)), "the restart to be noted")  # noqa: B023
    assert run.wait(LIMIT_S) == 0, run.stderr
    assert steps_of(run) == list(range(120))
    restarts = run.summary["restarts"]
    assert [restart["process"] for restart in restarts] == victims
    assert all("died with signal SIGKILL" in restart["reason"] for restart in restarts)
    assert all(restart["in_a_row"] == 1 for restart in restarts), "each of them had worked before"
    assert run.summary["degraded"] == []
    logs = {path.name for path in (run.run_dir / "logs").iterdir()}
    assert {"captioner.log", "captioner.2.log", "renderer-micro-sana.3.log", "evaluator.2.log"} <= logs
    assert "renderer micro/sana died with signal SIGKILL" in run.stdout
    assert "started again: captioner 1, renderer-micro-sana 2, evaluator 1" in run.stdout
    run.assert_nothing_left()


def run_events(run) -> list[dict]:
    file = run.run_dir / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.quick
def test_a_killed_trainer_goes_on_from_its_last_checkpoint(start_toy):
    began = time.monotonic()
    run = start_toy(*LONG)
    run.wait_until(lambda: run.steps() > 0, "the first step")
    first_step_s = time.monotonic() - began
    for number, moment in enumerate((25, 60)):
        run.wait_until(lambda: run.steps() > moment, "some steps")  # noqa: B023
        run.process("trainer").send_signal(signal.SIGKILL)
        run.wait_until(lambda: number < len(run_events(run)), "the restart to be noted")  # noqa: B023
    assert run.wait(LIMIT_S) == 0, run.stderr
    assert steps_of(run) == list(range(120))
    assert [restart["process"] for restart in run.summary["restarts"]] == ["trainer", "trainer"]
    assert [restart["in_a_row"] for restart in run.summary["restarts"]] == [1, 1], "there was a checkpoint in between"
    assert run.summary["steps"] == 120
    assert run.summary["seconds_to_first_step"] <= first_step_s + 1, "of the run, not of the last trainer"
    run.assert_nothing_left()


def test_a_run_goes_on_without_a_generator_that_dies_too_often(start_toy):
    run = start_toy(*LONG, "--launch.restarts", "1", TOY_FAULT="renderer-micro-sana:crash")
    assert run.wait(LIMIT_S) == 0, run.stderr
    assert [restart["process"] for restart in run.summary["restarts"]] == ["renderer-micro-sana"]
    [degraded] = run.summary["degraded"]
    assert degraded["generator"] == "micro/sana"
    expected = "without micro/sana: new captions have 1 of 2 pictures on average, and each of the other 1 generators "
    assert expected + "makes 100 % of the pictures instead of 50 %" in degraded["text"]
    assert "the run goes on without micro/sana" in run.stdout, "it is said when it happens"
    assert f"from step {degraded['step']} on without micro/sana" in run.stdout, "and at the end"
    assert run.summary["steps"] == 120 and run.summary["images"]["micro/sana"] == 0
    run.assert_nothing_left()


def test_a_captioner_that_dies_too_often_ends_the_run(start_toy):
    run = start_toy(*LONG, "--launch.restarts", "2", TOY_FAULT="captioner:crash")
    assert run.wait(LIMIT_S) == 1
    assert "error: captioner exited with code 1: error: RuntimeError: unforeseen (2 restarts without" in run.stderr
    assert "logs/captioner.3.log" in run.stderr
    assert f"to go on: polygen-stream run --resume {run.run_dir}" in run.stderr
    assert len(run.summary["restarts"]) == 2
    run.assert_nothing_left()


def test_a_silent_process_leaves_its_stacks_and_comes_back(start_toy):
    words = ("--launch.hang_timeout_s", "5", "--captions.target", "60")
    run = start_toy(*words, TOY_FAULT="captioner:silence", TOY_ONCE="1")
    assert run.wait(LIMIT_S) == 0, run.stderr
    [restart] = run.summary["restarts"]
    assert restart["process"] == "captioner" and "was silent for" in restart["reason"]
    assert "toy_run.py" in (run.run_dir / "logs" / "captioner.log").read_text(), "its stack is in its log"
    run.assert_nothing_left()


@pytest.mark.quick
def test_an_unfinished_run_is_taken_up_and_only_one_supervisor_may(start_toy, resume_toy):
    run = start_toy(*LONG)
    run.wait_until(lambda: run.steps() > 35, "35 steps")
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
    newest, folder = list_checkpoints(run.run_dir)[-1]
    (folder / "ring.safetensors").write_bytes(b"the disk has lost this")
    again = resume_toy(run, TOY_STEP_S="0.4")
    again.wait_until(lambda: any(e["event"] == "resume" for e in run_events(run)), "it to take the run up")
    third = resume_toy(run)
    assert third.wait(LIMIT_S) == 2
    assert "is still going on: stop it first" in third.stderr
    assert again.wait(LIMIT_S) == 0, again.stderr
    [line] = [line for line in again.stderr.splitlines() if "cannot be used" in line]
    assert f"step_{newest:06d} cannot be used (ring.safetensors is truncated" in line
    assert steps_of(again) == list(range(120))
    assert again.summary["resumes"][0]["step"] == newest - 10
    assert again.summary["unusable_checkpoints"][0]["checkpoint"] == folder.name
    again.assert_nothing_left()
