"""An evaluator on a GPU: the memory in which it encodes pictures and texts."""

from __future__ import annotations

import null_gpu
import pytest
from planned_memory import planned_gib

from polygen_stream.config import load_config

pytestmark = pytest.mark.rehearsal


@pytest.mark.parametrize(("name", "capability"), [("single_gpu", 80), ("paper", 80), ("paper", 90)])
def test_the_plan_has_the_memory_of_an_evaluator(name: str, capability: int, record):
    config = load_config(name, {"evaluate.device": "cuda:0"})
    figures = null_gpu.run("evaluate", config.train.model, config.ring.image_size, capability=capability)
    allocated, reserved = planned_gib(config, "evaluator")
    what = f"evaluator of {config.train.model}, sm_{capability}"
    record(f"{what}, GiB allocated", f"{figures['peak']:.2f}", f"{allocated:.2f}")
    record(f"{what}, GiB reserved", f"{figures['reserved']:.2f}", f"{reserved:.2f}")
    assert figures["peak"] == pytest.approx(allocated, rel=0.15)
    assert figures["reserved"] == pytest.approx(reserved, rel=0.15)
