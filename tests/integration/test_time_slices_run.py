"""A whole run whose processes take turns on one device, as configs/single_gpu.toml has it on a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORDS = (
    "--launch.time_slice_s", "1", "--train.steps", "30", "--train.batch", "32", "--ring.min_fill", "64",
    "--ring.slots", "1024", "--captions.source", "grammar", "--captions.target", "200", "--captions.backlog", "64",
    "--generators.recipes", "micro/sdxl_turbo,micro/sana", "--generators.backend", "eager",
    "--train.checkpoint_every", "30", "--evaluate.every", "0", "--evaluate.images_per_thing", "2",
)  # fmt: skip


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda:0", marks=pytest.mark.gpu)]
)
def test_a_run_in_turns_completes_and_everybody_has_one(tmp_path: Path, device: str):
    for package in ("matplotlib", "scipy", "sklearn", "tensorboard"):  # of the evaluator and the report
        pytest.importorskip(package)
    run_dir = tmp_path / "run"
    devices = [word for of in ("captions", "generators", "train", "evaluate") for word in (f"--{of}.device", device)]
    command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir", str(run_dir), *WORDS, *devices]
    with open(tmp_path / "out", "w") as out:
        run = subprocess.Popen(command, stdout=out, stderr=out)
        heads: set[int] = set()
        while run.poll() is None:
            queue = run_dir / "device_locks" / f"{device.replace(':', '-')}.json"
            if queue.exists() and (waiting := json.loads(queue.read_text())):
                heads.add(waiting[0][0])
            time.sleep(0.05)
    assert run.returncode == 0, (tmp_path / "out").read_text()
    assert len(heads) == 4, "captioner, two renderers, trainer"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["steps"] == 30 and min(summary["images"].values()) > 0
