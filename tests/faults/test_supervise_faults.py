"""A role that fails, hangs or stops on its own ends the run with its own words."""

from __future__ import annotations

import signal

import pytest

ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--launch.restarts", "0")


@pytest.mark.parametrize("role", ["trainer", "captioner", "renderer"])
def test_bad_input_found_by_a_role_is_repeated_with_exit_code_2(start_toy, role):
    run = start_toy(*ENDLESS, TOY_FAULT=f"{role}:user_error")
    assert run.wait() == 2
    assert run.stderr.startswith(f"error: {role}")
    assert "exited with code 2: error: captions.bank = nowhere: no such word bank; known: micro" in run.stderr
    run.assert_nothing_left()


def test_crash_of_a_role_is_one_line_and_its_traceback_is_in_the_log(start_toy):
    run = start_toy(*ENDLESS, TOY_FAULT="captioner:crash")
    assert run.wait() == 1
    assert run.stderr.startswith("error: captioner exited with code 1: error: RuntimeError: unforeseen\n")
    assert "Traceback" not in run.stderr
    assert "Traceback" in (run.run_dir / "logs" / "captioner.log").read_text()
    run.assert_nothing_left()


def test_silent_role_is_named_and_killed(start_toy):
    run = start_toy(*ENDLESS, "--launch.hang_timeout_s", "2", TOY_FAULT="captioner:silence")
    assert run.wait() == 1
    assert "error: captioner was silent for 1" in run.stderr
    assert "(limit 10, " in run.stderr, "five times the timeout while it starts"
    assert "toy_run.py" in (run.run_dir / "logs" / "captioner.log").read_text(), "its stack is in its log"
    run.assert_nothing_left()


def test_stopped_role_is_named_and_killed(start_toy):
    run = start_toy(*ENDLESS, "--launch.hang_timeout_s", "5")
    run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process("renderer-micro-sd15").send_signal(signal.SIGSTOP)
    # Whichever is noticed first: its silence, or the mutex it may have held when it was stopped.
    run.assert_goes_on_without("renderer micro/sd15", killed_by="")


def test_a_role_that_stops_with_the_mutex_as_the_first_step_is_seen_is_named_and_killed(start_toy):
    # Then the supervisor starts the evaluator, and asks the ring how far it is outside its own look at the ring.
    run = start_toy(*ENDLESS, TOY_FAULT="renderer-micro-sana:hold")
    run.assert_goes_on_without("renderer micro/sana", killed_by="stood still holding the ring's mutex and was killed")


def test_a_renderer_of_several_is_given_up_alone_and_its_generator_stays(start_toy):
    two = ("--launch.renderers", '{"micro/sana" = ["cpu", "cpu"]}', "--launch.restarts", "0")
    run = start_toy("--train.steps", "120", "--captions.target", "0", *two, TOY_STEP_S="0.05",
                    TOY_FAULT="renderer-micro-sana-2:failure")  # fmt: skip
    assert run.wait() == 0, run.stderr
    assert "renderer micro/sana #2 exited with code 1" in run.stdout
    assert "the run goes on with 1 of its renderers" in run.stdout
    assert run.summary["degraded"] == [] and run.summary["images"]["micro/sana"] > 0
    run.assert_nothing_left()


def test_trainer_stopped_from_outside_is_not_a_completed_run(start_toy):
    run = start_toy(*ENDLESS)
    run.wait_until(lambda: run.steps() > 5, "five steps")
    run.process("trainer").send_signal(signal.SIGTERM)
    assert run.wait() == 1
    assert "trainer ended, perhaps by a SIGTERM that was not the supervisor's, at step" in run.stderr
    assert "of 100000" in run.stderr
    assert run.summary["status"] == "failed"
    run.assert_nothing_left()


def test_evaluator_that_leaves_early_is_started_when_training_is_over(start_toy):
    run = start_toy("--captions.target", "60", "--launch.restarts", "0", TOY_STEP_S="0.2")
    run.wait_until(lambda: run.handles("evaluator", signal.SIGTERM), "the evaluator's handler")
    run.process("evaluator").send_signal(signal.SIGTERM)
    assert run.wait() == 0, run.stderr
    assert "evaluator ended, perhaps by" in run.stdout and "without evaluating the final checkpoint" in run.stdout
    assert run.summary["missing"] == [] and run.summary["evaluation"]["trained"] is not None
    run.assert_nothing_left()
