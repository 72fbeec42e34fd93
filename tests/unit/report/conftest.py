"""Fixtures for the tests of reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from html_page import Page
from run_folders import STEPS, make_run
from small_rings import open_pair, open_plain, render

from polygen_stream.report import report
from polygen_stream.ring import DrawRequest
from polygen_stream.ring.snapshot import save_snapshot


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "first")
    scores = {"zero_shot:cifar10": {"acc1": {"score": 0.5, "low": 0.49, "high": 0.51, "n": 10000, "chance": 0.1}}}
    (folder / "evaluations").mkdir()
    (folder / "evaluations" / f"step_{STEPS:06d}.json").write_text(json.dumps({"model": {}, "scores": scores}))
    return folder


@pytest.fixture
def ring(new_ring):
    """Ten captions, some with a negative, drawn a few times."""
    ring = new_ring(image_shape=(32, 32, 3))
    for task in range(6):
        open_pair(ring, task) if task % 2 else open_plain(ring, task)
        render(ring)
    for step in range(4):
        ring.release(ring.draw(DrawRequest(step, 3, 1), timeout_s=1.0))
    return ring


@pytest.fixture
def page(run_dir, ring) -> Page:
    save_snapshot(ring, run_dir / "ring.safetensors", payload=False)
    text = report.write_report(run_dir, ["a red house", "a boat on the sea"]).read_text(encoding="utf-8")
    assert len(text) < 10_000_000
    return Page(text)
