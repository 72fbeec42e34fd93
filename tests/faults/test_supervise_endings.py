"""A trained model is not lost with its last scores or its report: the run is completed, and says what it lacks."""

from __future__ import annotations

import pytest

SHORT = ("--captions.target", "60", "--launch.restarts", "0", "--evaluate.timeout_s", "3")
# A source that says by itself what captions are about: the bank has no concepts then.
OWN_WORLD = ("--captions.source", "polygen_stream.captions.sources:grammar_source", "--captions.bank", "english")


def lacks(run) -> list[tuple[str, str]]:
    return [(each["what"], each["why"]) for each in run.summary["missing"]]


@pytest.mark.quick
def test_a_late_evaluation_and_a_late_report_are_warnings(start_toy, resume_toy):
    run = start_toy(*SHORT, TOY_FAULT="evaluator,report:silence")
    assert run.wait() == 0, run.stderr
    assert run.summary["status"] == "completed" and run.summary["steps"] == 40
    assert lacks(run) == [
        ("scores of the final checkpoint", "evaluator did not finish within 3 s"),
        ("report", "report did not finish within 3 s"),
    ]
    assert run.stderr == (
        "warning: no scores of the final checkpoint: evaluator did not finish within 3 s\n"
        f"  to make up for it: polygen-stream evaluate {run.run_dir} --tasks micro\n"
        "warning: no report: report did not finish within 3 s\n"
        f"  to make up for it: polygen-stream report {run.run_dir}\n"
    )
    run.assert_nothing_left()

    again = resume_toy(run, TOY_FAULT="evaluator,report:silence")
    assert again.wait() == 0, again.stderr
    assert len(again.summary["missing"]) == 2, "as late as before, and no failure either"

    made_up = resume_toy(run)
    assert made_up.wait() == 0, made_up.stderr
    assert made_up.summary["missing"] == [] and made_up.stderr == ""
    assert made_up.summary["evaluation"]["trained"]["zero_shot_things"] == 0.5
    assert (run.run_dir / "report.html").exists()
    finished = resume_toy(run)
    assert finished.wait() == 2
    assert "is finished" in finished.stderr


@pytest.mark.parametrize("way", ["crash", "user_error"])
@pytest.mark.parametrize("role", ["evaluator", "report"])
def test_one_that_fails_is_a_warning(start_toy, role, way):
    run = start_toy(*SHORT, TOY_FAULT=f"{role}:{way}")
    assert run.wait() == 0, run.stderr
    [(what, why)] = lacks(run)
    assert what == {"evaluator": "scores of the final checkpoint", "report": "report"}[role]
    said = {"crash": "code 1: error: RuntimeError: unforeseen", "user_error": "code 2: error: captions.bank = nowhere"}
    assert why.startswith(f"{role} exited with {said[way]}")
    run.assert_nothing_left()


def test_an_evaluator_lost_during_training_is_started_when_it_is_over(start_toy):
    run = start_toy("--captions.target", "60", "--launch.restarts", "0", TOY_STEP_S="0.1", TOY_ONCE="1",
                    TOY_FAULT="evaluator:crash")  # fmt: skip
    assert run.wait() == 0, run.stderr
    assert "evaluator exited with code 1: error: RuntimeError: unforeseen: the run goes on without" in run.stdout
    assert lacks(run) == [] and run.summary["evaluation"]["trained"] is not None
    run.assert_nothing_left()


def test_a_task_that_could_not_be_scored_is_named(start_toy):
    run = start_toy("--captions.target", "60", TOY_FAILED_TASK="zero_shot:/pictures")
    assert run.wait() == 0, run.stderr
    assert lacks(run) == [("scores of zero_shot:/pictures", "there is none")]
    assert f"polygen-stream evaluate {run.run_dir} --tasks zero_shot:/pictures" in run.stderr


def test_a_run_without_tasks_says_so_and_completes_without_an_evaluator(start_toy):
    run = start_toy("--captions.target", "60", *OWN_WORLD)
    assert run.wait() == 0, run.stderr
    said = "no scores: captions.bank = 'english' has no test set of its own, and evaluate.tasks names no task"
    assert run.stdout.count(said) == 2, "at the start and at the end"
    assert run.summary["evaluation"] == {
        "trained": None, "untrained": None, "chance": None, "tasks": {}, "no_scores": said,
    }  # fmt: skip
    assert run.summary["missing"] == [] and not (run.run_dir / "logs" / "evaluator.log").exists()
    assert (run.run_dir / "report.html").exists()
