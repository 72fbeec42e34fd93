"""`make gpu-test` before there is a GPU: the stages' own command, as far as it goes where nothing is computed."""

from __future__ import annotations

import json
import subprocess
import sys

import null_gpu
import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.measured_rates import read_measured_rates

pytestmark = pytest.mark.rehearsal
ROOT = null_gpu.TESTS.parent


@pytest.mark.parametrize(
    ("stage", "selected", "measured"),
    [
        (
            "1",
            "not sd15 and not sd2 and not sana and not sd35",
            ["single_gpu", "sdxl_turbo"],
        ),  # test_generators.py has them
        ("2", "", ["paper"]),
    ],
)
def test_a_stage_prints_a_table_and_writes_it_as_json(stage: str, selected: str, measured: list[str], tmp_path):
    environment = null_gpu.environment()
    environment["PYTHONPATH"] = f"{null_gpu.TESTS / 'null_gpu' / 'site'}:{environment['PYTHONPATH']}"
    words = [sys.executable, str(ROOT / "tools" / "gpu_test.py"), stage, "--out", str(tmp_path), "--"]
    done = subprocess.run(
        [*words, *(("-k", selected) if selected else ())], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    file = tmp_path / f"gpu-test-{stage}.json"
    found = json.loads(file.read_text())
    assert found["null_gpu"] and found["gpu"] == "NVIDIA A100-SXM4-80GB"
    assert found["outcomes"]["passed"] > 0 and found["outcomes"]["failed"] == found["outcomes"]["error"] == 0
    kinds = [f"{name}: {what}" for name in measured for what in ("allocated", "reserved")]
    assert [f"{row['what'].partition(':')[0]}: {row['what'].rpartition(' ')[2]}" for row in found["rows"]] == kinds
    assert all(0.85 < row["ratio"] < 1.15 for row in found["rows"])
    assert "NULL GPU: it computes nothing, and no time was measured" in done.stdout
    assert all(
        f"| {row['what']} | {row['planned']:.4g} | {row['measured']:.4g} |" in done.stdout for row in found["rows"]
    )
    with pytest.raises(UserError, match="rates is empty"):
        read_measured_rates(file)


def test_bench_trainer_runs_on_a_gpu(tmp_path):
    """Its figures mean nothing here; that both loops work on a CUDA device does."""
    file = tmp_path / "trainer.json"
    words = ["bench", "trainer", "--model", "micro", "--batch", "8", "--pairs", "10", "--device", "cuda:0"]
    command = [sys.executable, "-m", "polygen_stream", *words, "--json", str(file)]
    done = subprocess.run(command, env=null_gpu.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(file.read_text())
    assert (found["device"], found["autocast"]) == ("cuda:0", "torch.bfloat16")
    assert read_measured_rates(file).trainer.keys() == {"micro"}
