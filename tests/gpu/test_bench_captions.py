"""`polygen-stream bench captions` with vLLM on a GPU: the micro language models."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.capacity.measured_rates import read_measured_rates

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
VLLM_PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"


def test_captions_by_vllm_are_measured(tmp_path: Path, stage):
    stage.computes()
    python = sys.executable if importlib.util.find_spec("vllm") else str(VLLM_PYTHON)
    if not Path(python).exists():
        pytest.skip(f"no vLLM in this interpreter, and no {VLLM_PYTHON}: docs/gpus.md, Extras, has the command")
    file = tmp_path / "captions.json"
    words = ("--sources", "vllm", "--in-flight", "64", "--tasks", "256", "--rounds", "2", "--negatives")
    options = ("--captions.device", "cuda:0", "--captions.gpu_memory_utilization", "0.2")
    command = [python, "-m", "polygen_stream", "bench", "captions", *words, *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [row] = json.loads(file.read_text())["results"]
    rates = read_measured_rates(file)
    stage.record("vLLM, micro models: captions with hard negatives/s", None, rates.captions["vllm"].captions_per_s)
    stage.record("vLLM, micro models: tokens/s", None, row["tokens_per_s"]["median"])
    stage.rates = stage.rates.model_copy(update={"captions": rates.captions})
    assert row["accepted"] > 0.8
