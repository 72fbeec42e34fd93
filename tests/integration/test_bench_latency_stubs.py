"""A run whose models only wait: it takes their time, fills the ring with repeatable pictures and ends like any run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import latency_stub_run
import numpy as np
import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.bench.latency_stubs.roles import Latency, picture
from polygen_stream.simulate.against import compare, measure

RUN = Path(latency_stub_run.__file__)
CONFIG = {
    "captions.source": "grammar",
    "captions.target": "48",
    "generators.recipes": "micro/sd15,micro/sana",
    "generators.batch": "4",
    "curriculum.end": "0.25",
    "ring.slots": "256",
    "ring.min_fill": "8",
    "train.batch": "8",
    "train.steps": "30",
}


def test_a_run_of_latency_stubs_takes_the_time_its_models_would(tmp_path):
    image_s = {"micro/sd15": 0.04, "micro/sana": 0.02}
    latency = {"image_s": image_s, "replicas": {"micro/sd15": 2}, "step_s": 0.05, "caption_s": 0.01}
    words = [word for key, value in CONFIG.items() for word in (f"--{key}", value)]
    run_dir = tmp_path / "run"
    subprocess.run([sys.executable, RUN, run_dir, json.dumps(latency), *words], check=True, timeout=120)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 30)
    assert (run_dir / "logs" / "renderer-micro-sd15-2.log").exists()
    assert summary["images"]["micro/sd15"] == summary["images"]["micro/sana"] >= 48
    # No faster than the models would be: a lower bound only, for the machine may be busy.
    assert summary["seconds"] > 30 * latency["step_s"]
    assert summary["seconds"] > summary["images"]["micro/sd15"] * image_s["micro/sd15"] / 2
    lines = list(read_jsonl(run_dir / "metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(30))
    assert min(line["step_s"] for line in lines) >= latency["step_s"]
    # What it made does not depend on its pace, so its simulation says the same; paces are compared on a quiet machine.
    figures = {figure.name: figure for figure in compare(run_dir)}
    assert figures["images rendered"].measured == summary["images_total"]
    assert (
        abs(figures["images rendered"].relative_error) < 0.1 and abs(figures["draws of a caption"].relative_error) < 0.1
    )
    assert measure(run_dir).times.step_s >= latency["step_s"]
    assert [name for name, _ in measure(run_dir).placement.renderers] == ["micro/sd15", "micro/sd15", "micro/sana"]


def test_a_run_that_was_not_completed_is_no_measure(tmp_path):
    with pytest.raises(UserError, match="has no summary"):
        measure(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "interrupted", "restarts": [], "resumes": []}')
    with pytest.raises(UserError, match="is interrupted"):
        measure(tmp_path)


def test_pictures_are_a_function_of_caption_and_seed():
    def of(caption: str, seed: int) -> np.ndarray:
        return picture(caption, seed, size=20)

    assert of("a red cup", 1).shape == (20, 20, 3) and of("a red cup", 1).dtype == np.uint8
    assert (of("a red cup", 1) == of("a red cup", 1)).all()
    alike = np.abs(of("a red cup", 1).astype(int) - of("a red cup", 2)).mean()
    unlike = np.abs(of("a red cup", 1).astype(int) - of("a blue cup", 2)).mean()
    assert 0 < alike < unlike


def test_latencies_survive_the_run_folder(tmp_path):
    latency = Latency({"micro/sd15": 0.5}, call_s=0.1, replicas={"micro/sd15": 3}, caption_s=0.2)
    latency.write(tmp_path)
    assert Latency.read(tmp_path) == latency
