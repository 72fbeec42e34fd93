"""kill -9 of any one process of a run that starts nothing again: nothing stays, and the message names the culprit."""

from __future__ import annotations

import signal

import pytest

ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.restarts", "0")
LABELS = {
    "trainer": "trainer",
    "renderer-micro-sana": "renderer micro/sana",
    "captioner": "captioner",
    "guardian": "guardian",
}


@pytest.mark.parametrize("moment", ["start", "training"])
@pytest.mark.parametrize("victim", LABELS)
def test_killed_process_is_named_and_nothing_is_left(start_toy, victim, moment):
    run = start_toy(*ENDLESS)
    if moment == "training":
        run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process(victim).send_signal(signal.SIGKILL)
    if victim.startswith("renderer"):
        return run.assert_goes_on_without(LABELS[victim])
    assert run.wait() == 1
    assert f"error: {LABELS[victim]} died with signal SIGKILL" in run.stderr
    if victim != "guardian":
        assert f"{run.run_dir}/logs/{victim}.log" in run.stderr
    assert run.summary["status"] == "failed"
    assert LABELS[victim] in run.summary["error"]
    run.assert_nothing_left()


@pytest.mark.parametrize("moment", ["start", "training"])
def test_killed_supervisor_takes_everything_with_it(start_toy, moment):
    run = start_toy(*ENDLESS)
    run.process("guardian")
    # the guardian comes first: killed before a role has started, there would be nothing that could be left
    run.wait_until(lambda: len(run.processes()) >= 2, "a role beside the guardian")
    if moment == "training":
        run.wait_until(lambda: run.steps() > 5 and len(run.processes()) >= 6, "five steps and the evaluator")
    run.process("supervisor").send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.assert_nothing_left()
    assert "error: the supervisor was killed" in run.stderr


@pytest.mark.parametrize(("victim", "lost"), [("evaluator", "scores of the final checkpoint"), ("report", "report")])
def test_what_is_killed_after_training_is_named_in_a_warning(start_toy, victim, lost):
    run = start_toy("--captions.target", "60", "--launch.restarts", "0", TOY_FAULT=f"{victim}:silence")
    log = run.run_dir / "logs" / {"evaluator": "evaluator.2.log", "report": "report.log"}[victim]
    run.wait_until(log.exists, f"the last {victim}")
    run.process(victim).send_signal(signal.SIGKILL)
    assert run.wait() == 0, run.stderr
    assert f"warning: no {lost}: {victim} died with signal SIGKILL" in run.stderr
    run.assert_nothing_left()


def test_killed_evaluator_ends_no_training(start_toy):
    run = start_toy("--captions.target", "60", "--launch.restarts", "0", TOY_STEP_S="0.2")
    run.process("evaluator").send_signal(signal.SIGKILL)
    assert run.wait() == 0, run.stderr
    assert "evaluator died with signal SIGKILL" in run.stdout
    assert run.summary["missing"] == [] and run.summary["evaluation"]["trained"] is not None
    run.assert_nothing_left()


@pytest.mark.parametrize("victim", ["captioner", "supervisor"])
def test_helper_in_a_session_of_its_own_does_not_survive(start_toy, victim):
    run = start_toy(*ENDLESS, TOY_FAULT="captioner:stray")
    run.wait_until(lambda: "stray" in run.processes(), "the stray")
    run.process(victim).send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()


def test_half_written_checkpoint_is_removed(start_toy):
    run = start_toy(*ENDLESS)
    run.wait_until(lambda: run.steps() > 2, "two steps")
    partial = run.run_dir / "checkpoints" / ".partial-step_000002"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()
    run.assert_nothing_left()
