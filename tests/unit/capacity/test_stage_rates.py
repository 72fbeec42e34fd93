"""What a stage of `make gpu-test` writes is what `plan --rates` reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import load_config

ROOT = Path(__file__).resolve().parents[3]
TESTS = """
def test_measured(stage):
    assert not stage.null_gpu
    stage.record("paper: images/s", 750.0, 600.0)
    stage.record("micro run: seconds", None, 61.5)
    stage.trainer_rate("ViT-B-16", 600.0, accum_freq=8)
    for images_per_s in (2.0, 1.5):
        stage.generator_rate("sd15", images_per_s)

def test_failed(stage):
    assert False
"""


def test_a_stages_rates_are_those_of_a_plan(tmp_path: Path):
    shutil.copy(ROOT / "tests" / "gpu" / "conftest.py", tmp_path)
    (tmp_path / "test_stage.py").write_text(TESTS)
    file = tmp_path / "gpu-test-2.json"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    stage = ["--stage", "2", "--stage-json", str(file)]
    done = subprocess.run([sys.executable, *words, *stage], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "| paper: images/s | 750 | 600 | 0.80 |\n| micro run: seconds |  | 61.5 |  |\n" in done.stdout
    found = json.loads(file.read_text())
    assert (found["stage"], found["null_gpu"]) == ("2", False)
    assert (found["outcomes"]["passed"], found["outcomes"]["failed"]) == (1, 1)
    assert found["rows"][0] == {"what": "paper: images/s", "planned": 750.0, "measured": 600.0, "ratio": 0.8}

    rates = find_rates(load_config("paper"), [file])
    assert (rates.trainer.per_s, rates.trainer.basis) == (600.0, "measured")  # measured with accumulation, as planned
    assert (rates.generators["sd15"].per_s, rates.generators["sd2"].basis) == (2.0, "estimate")
    command = [sys.executable, "-m", "polygen_stream", "plan", "--gpus", "8", "--rates", str(file)]
    plan = subprocess.run(command, capture_output=True, text=True)
    assert plan.returncode == 0 and "measured" in plan.stdout, plan.stdout + plan.stderr
