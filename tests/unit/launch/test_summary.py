"""summary.json from what a run left behind."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest

from polygen_stream.config import load_config
from polygen_stream.launch.summary import (
    evaluation,
    missing_scores,
    missing_tasks,
    refusals,
    show,
    summarize,
    wait_share,
)
from polygen_stream.ring import Ring, RingSpec


@pytest.fixture
def stats():
    spec = RingSpec(
        slots=8, image_shape=(4, 4, 3), groups=4, members=2, caption_bytes=16, generators=("a", "b"), seed=0
    )
    with closing(Ring.create(spec)) as ring:
        yield ring.stats()


def write_metrics(folder, committed, log_every=1):
    lines = [
        {
            "step": index * log_every, "time": float(index), "wait_s": 0.2, "step_s": 0.6, "images": 10,
            "images_committed": count,
        }
        for index, count in enumerate(committed)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def with_images(stats, total):
    return replace(stats, images_committed={"a": total // 2, "b": total - total // 2})


def test_run_that_never_stepped(tmp_path, stats):
    result = summarize(tmp_path, "failed", "trainer died", 3.0, None, stats)
    assert result["steps"] == 0
    assert result["seconds_to_first_step"] is None
    assert result["overlap"] == {"images_at_first_step_share": None, "commit_step_share": None}
    assert result["waiting"] == {"trainer_share": None, "producer_limiter_share": {}}
    assert result["evaluation"] == {"trained": None, "untrained": None, "chance": None, "tasks": {}, "no_scores": ""}
    json.dumps(result)


def test_overlap_counts_steps_until_the_production_target_was_met(tmp_path, stats):
    # Four steps between the first one and the target of 100; one of them saw no new image. Later steps are free.
    write_metrics(tmp_path, [5, 30, 30, 60, 100, 100, 100])
    result = summarize(tmp_path, "completed", None, 9.0, 1.5, with_images(stats, 100))
    assert result["overlap"] == {"images_at_first_step_share": 0.05, "commit_step_share": 0.75}
    assert result["waiting"]["trainer_share"] == 0.25
    assert result["steps"] == 7
    assert result["steps_per_second"] == 1.0
    assert result["images_seen"] == 70


def test_the_wait_for_the_first_batch_counts_apart(tmp_path, stats, capsys):
    lines = [
        {
            "step": step, "time": step, "wait_s": 18.0 if step == 0 else 0.5, "step_s": 1.5, "images": 1,
            "images_committed": 9,
        }
        for step in range(5)
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = summarize(tmp_path, "completed", None, 9.0, 1.5, stats)
    assert result["waiting"]["trainer_share"] == round(20 / 27.5, 4)
    assert result["trainer_wait"] == {"first_batch_s": 18.0, "share_after_first_batch": 0.25, "loading_share": 0.0}
    show(result, tmp_path)
    assert "waited: trainer 18.0 s for the first batch, then 25.0 %" in capsys.readouterr().out


def test_images_seen_counts_the_steps_between_logged_ones(tmp_path, stats):
    write_metrics(tmp_path, [1, 2, 3], log_every=5)
    result = summarize(tmp_path, "completed", None, 9.0, 1.5, with_images(stats, 3))
    assert result["steps"] == 11
    assert result["images_seen"] == 110


def test_evaluation_takes_untrained_and_final_lines():
    metrics = {"zero_shot_things": 0.5, "compositional_by_edit": {"swap": 0.75}, "seen": {"zero_shot_things": 0.9}}
    lines = [
        {"step": 0, "final": False, "metrics": {"zero_shot_things": 0.04}, "chance": {"zero_shot_things": 0.04}},
        {"step": 200, "final": False, "metrics": {"zero_shot_things": 0.3}, "chance": {"zero_shot_things": 0.04}},
        {"step": 600, "final": True, "metrics": metrics, "chance": {"zero_shot_things": 0.04}},
    ]
    found = evaluation(lines)
    assert found["trained"]["zero_shot_things"] == 0.5
    assert found["trained"]["compositional_by_edit"] == {"swap": 0.75}
    assert found["untrained"]["zero_shot_things"] == 0.04
    assert found["chance"]["zero_shot_things"] == 0.04
    assert evaluation(lines[:2])["trained"] is None


def test_tasks_stand_beside_the_micro_suite_and_alone(tmp_path, stats, capsys):
    lines = [
        {"step": step, "final": step > 0, "metrics": {}, "intervals": {}, "chance": {}, "failed": {},
         "tasks": {"zero_shot:/p": {"acc1": score(acc1), "acc5": score(0.9)}}}
        for step, acc1 in ((0, 0.1), (600, 0.4))
    ]  # fmt: skip
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_metrics(tmp_path, [1, 2])
    result = summarize(tmp_path, "completed", None, 9.0, 1.5, with_images(stats, 2))
    assert result["evaluation"]["trained"] is None and result["evaluation"]["chance"] is None
    acc1 = result["evaluation"]["tasks"]["zero_shot:/p"]["acc1"]
    assert acc1 == {"trained": 0.4, "untrained": 0.1, "chance": 0.05}
    show(result, tmp_path)
    shown = capsys.readouterr().out
    assert "zero_shot:/p" in shown and "40.0 %" in shown and "10.0 %" in shown
    assert "reserved combinations" not in shown, "of the micro world, which this run is not about"


def score(value: float) -> dict:
    return {"score": value, "low": value, "high": value, "n": 20, "chance": 0.05}


def test_commands_that_make_up_for_what_is_missing_can_be_pasted(tmp_path):
    words = {"evaluate.tasks": "zero_shot:cifar10", "evaluate.data": "/my data", "train.device": "cuda:0"}
    config = load_config(None, words)
    assert missing_scores(config, tmp_path / "a run", "it died")["command"] == (
        f"polygen-stream evaluate '{tmp_path}/a run' --tasks micro,zero_shot:cifar10 --data '/my data' --device cuda:0"
    )
    (tmp_path / "eval.jsonl").write_text(
        json.dumps({"step": 700, "final": True, "failed": {"pairs:/x": "of the run before it was made longer"}}) + "\n"
        + json.dumps({"step": 1400, "final": True, "failed": {"zero_shot:cifar10": "no such folder"}}) + "\n"
    )  # fmt: skip
    [lost] = missing_tasks(config, tmp_path)
    assert (lost["what"], lost["why"]) == ("scores of zero_shot:cifar10", "no such folder")
    assert "--tasks zero_shot:cifar10 --data" in lost["command"]


def test_wait_share_of_a_process_that_did_nothing_yet():
    assert wait_share({"wait_s": 0.0, "busy_s": 0.0}) is None
    assert wait_share({"wait_s": 1.0, "busy_s": 3.0}) == 0.25


def test_refused_replies_are_counted_over_kept_and_dropped_tasks():
    colour, size = {"axis": "colour"}, {"axis": "size"}
    journal = [
        {"provenance": {"bank": "micro"}},
        {"task": size, "caption": {"text": "a cat", "negative": "a dog", "rejected": ["caption: a", "negative: b"]}},
        {"task": colour, "caption": {"text": "a fish", "negative": None, "rejected": []}},
        {"task": size, "dropped": {"rejected": ["caption: a"] * 3}},
    ]
    assert refusals(journal) == {
        "tasks_dropped": 1,
        "replies": {"caption: a": 4, "negative: b": 1},
        "by_axis": {
            "colour": {"accepted": 1, "retried": 0, "dropped": 0, "hard_negatives": 0},
            "size": {"accepted": 0, "retried": 1, "dropped": 1, "hard_negatives": 1},
        },
    }
