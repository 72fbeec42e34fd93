"""Peak memory of the loss, as tools/loss_memory.py measures it: each point in a process of its own."""

from __future__ import annotations

import runpy
from pathlib import Path

TOOL = Path(__file__).resolve().parents[3] / "tools" / "loss_memory.py"


def test_peak_memory_is_linear_in_the_batch_in_chunks_and_quadratic_without():
    point = runpy.run_path(str(TOOL))["point"]
    growth = {chunk: point(1024, chunk)["mib"] / point(512, chunk)["mib"] for chunk in (0, 128)}
    assert growth[0] > 3.5  # the measurement sees the square where there is one
    assert growth[128] < 2.2
