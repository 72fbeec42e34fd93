"""A run that goes well, and runs that are refused before anything starts."""

from __future__ import annotations

import json

import pytest


@pytest.mark.quick
def test_completed_run_leaves_its_folder_and_nothing_else(start_toy):
    run = start_toy("--captions.target", "60")
    assert run.wait() == 0
    assert run.stderr == ""
    run.assert_nothing_left()
    names = {path.name for path in run.run_dir.iterdir()}
    assert names == {
        "checkpoints", "config.toml", "eval.jsonl", "logs", "metrics.jsonl", "provenance.json", "report.html",
        "ring.safetensors", "summary.json",
    }  # fmt: skip
    summary = run.summary
    assert summary["status"] == "completed" and summary["error"] is None
    assert summary["steps"] == 40
    assert summary["images"] == {"micro/sd15": 120, "micro/sana": 120}
    assert summary["images_total"] == 240
    assert summary["images_seen"] == 40 * 12
    assert summary["captions"] == 60
    assert 0 < summary["seconds_to_first_step"] < summary["seconds"]
    assert 0 < summary["overlap"]["images_at_first_step_share"] < 1
    assert summary["waiting"]["trainer_share"] is not None
    assert summary["waiting"]["producer_limiter_share"].keys() == {
        "captioner", "renderer-micro-sd15", "renderer-micro-sana",
    }  # fmt: skip
    assert summary["evaluation"]["trained"]["compositional_by_edit"] == {"swap colour": 0.7}
    assert summary["evaluation"]["untrained"]["zero_shot_things"] == 0.5
    assert summary["evaluation"]["chance"]["zero_shot_things"] == 0.04
    assert "zero shot things" in run.stdout and str(run.run_dir) in run.stdout
    provenance = json.loads((run.run_dir / "provenance.json").read_text())
    assert provenance["packages"]["numpy"] and provenance["argv"] and provenance["python"]


def test_folder_that_holds_something_is_refused(start_toy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    run = start_toy()
    assert run.wait() == 2
    assert run.stderr.startswith(f"error: run folder {run.run_dir} is not empty")
    assert len(run.stderr.splitlines()) == 1
    assert [path.name for path in run.run_dir.iterdir()] == ["precious"]


def test_ring_larger_than_memory_is_refused_before_anything_starts(start_toy):
    run = start_toy("--ring.slots", "2000000000")
    assert run.wait() == 2
    assert run.stderr.startswith("error: the ring needs") and len(run.stderr.splitlines()) == 1
    assert not run.run_dir.exists()
    assert list(run.scratch.iterdir()) == []


def test_a_warm_up_that_is_longer_than_the_run_is_warned_of(start_toy):
    run = start_toy("--captions.target", "60", "--train.warmup", "500")
    assert run.wait() == 0
    assert "warning: train.warmup = 500 is more than train.steps = 40" in run.stderr
