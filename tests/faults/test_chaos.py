"""tools/chaos.py on a small real run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SMALL = (
    "--captions.source", "grammar", "--captions.target", "120", "--generators.recipes", "micro/sdxl_turbo,micro/sana",
    "--generators.backend", "eager", "--ring.min_fill", "16", "--train.batch", "16", "--train.steps", "60",
    "--train.checkpoint_every", "10", "--evaluate.every", "0", "--evaluate.images_per_thing", "1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_under_kills_ends_as_if_nothing_had_happened(tmp_path):
    tool = Path(__file__).parents[2] / "tools" / "chaos.py"
    options = ("--every", "20", "--trainer-kills", "2")
    done = subprocess.run(
        [sys.executable, str(tool), str(tmp_path / "run"), *options, *SMALL], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 of 60 steps, 120 captions" in done.stdout and "| trainer | 2 | 2 |" in done.stdout
