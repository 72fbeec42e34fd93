"""`polygen-stream bench trainer` on a GPU: our step beside open_clip's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu_commands import polygen_stream

from polygen_stream.capacity.rates import find_rates
from polygen_stream.config import load_config

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
MODEL, BATCH = "ViT-B-16", 256


def test_a_step_is_no_slower_than_open_clips(tmp_path: Path, stage):
    stage.computes()
    for package in ("pandas", "scipy", "webdataset"):  # of open_clip's own loop, and of the comparison
        pytest.importorskip(package)
    file = tmp_path / "trainer.json"
    words = ("--model", MODEL, "--batch", str(BATCH), "--pairs", "10", "--threads", "4", "--device", "cuda:0")
    polygen_stream("bench", "trainer", *words, "--json", str(file))
    found = json.loads(file.read_text())
    assert (found["device"], found["autocast"]) == ("cuda:0", "torch.bfloat16")
    for loop, ratio in found["ratio"].items():
        stage.record(f"bench trainer: our step of {BATCH} pairs over that of {loop}", 1.0, ratio["median"])
    reference = find_rates(load_config("paper", {"train.accum_freq": "1"})).trainer.per_s
    measured = found["rates"]["trainer"][MODEL]["images_per_s"]
    stage.record(f"bench trainer: images/s of {MODEL} (planned: an A100's)", reference, measured)
    assert found["ratio"]["open_clip"]["low"] <= 1.05, "our step takes longer than open_clip's"
