"""Runs of the micro preset on a GPU: eager to the end, on compiled engines, and with a captioner under vLLM."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import pytest
from gpu_commands import ON_THE_GPU, polygen_stream

from polygen_stream.captions.journal import read_provenances

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(450)]
VLLM_PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"
# A GPU would train on what few captions there are: each is drawn as often as in the run that is compared with.
PACE = ("--ring.samples_per_insert", "37", "--ring.error_buffer", "4000", "--ring.draw_timeout_s", "900")
ON_TWO_CORES = {"zero_shot_things": 0.817, "seconds": 483.0}  # README


def summary_of(run_dir: Path) -> dict:
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "completed"
    return summary


def test_the_micro_preset_trains_to_its_end(tmp_path: Path, stage):
    stage.computes()
    for package in ("matplotlib", "scipy", "sklearn", "tensorboard"):  # of the evaluator and the report
        pytest.importorskip(package)
    polygen_stream("run", "--run-dir", str(tmp_path / "run"), *ON_THE_GPU, "--generators.backend", "eager", *PACE)
    summary = summary_of(tmp_path / "run")
    score = summary["evaluation"]["trained"]["zero_shot_things"]
    stage.record(
        "micro run, eager: zero-shot, 24 things (planned: two CPU cores')", ON_TWO_CORES["zero_shot_things"], score
    )
    stage.record("micro run, eager: seconds (planned: two CPU cores')", ON_TWO_CORES["seconds"], summary["seconds"])
    assert summary["steps"] == 1400
    assert len(summary["images"]) == 4 and min(summary["images"].values()) > 0
    # A GPU rounds otherwise, and trains in bfloat16.
    assert score > 0.65


def test_the_micro_preset_trains_on_compiled_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage):
    pytest.importorskip("tensorrt")
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path / "cache"))
    polygen_stream("build-engines", "--backend", "tensorrt")
    words = ("--backends", "eager,tensorrt", "--batches", "16", "--repeats", "3", "--device", "cuda:0")
    polygen_stream("bench", "generators", *words, "--json", str(tmp_path / "generators.json"))
    rows = json.loads((tmp_path / "generators.json").read_text())["results"]
    eager = {row["generator"]: row["images_per_s"] for row in rows if row["backend"] == "eager"}
    for row in (row for row in rows if row["backend"] == "tensorrt"):
        name = row["generator"]
        stage.record(f"{name}: TensorRT images/s (planned: eager's)", eager[name], row["images_per_s"])
        stage.generator_rate(name, row["images_per_s"])
    run_dir = tmp_path / "run"
    steps = ("--train.steps", "400", "--evaluate.every", "0")
    polygen_stream("run", "--run-dir", str(run_dir), *ON_THE_GPU, "--generators.backend", "tensorrt", *PACE, *steps)
    summary = summary_of(run_dir)
    stage.record("micro run, TensorRT: seconds of 400 steps", None, summary["seconds"])
    assert summary["steps"] == 400
    assert len(summary["images"]) == 4 and min(summary["images"].values()) > 0
    logs = [log.read_text() for log in (run_dir / "logs").glob("renderer-*.log")]
    assert len(logs) == 4 and not any("eager" in log for log in logs), logs


def test_a_captioner_under_vllm_writes_what_its_validators_accept(monkeypatch: pytest.MonkeyPatch, stage):
    python = sys.executable if importlib.util.find_spec("vllm") else str(VLLM_PYTHON)
    if not Path(python).exists():
        pytest.skip(f"no vLLM in this interpreter, and no {VLLM_PYTHON}: docs/gpus.md, Extras, has the command")
    # Not tmp_path: vLLM's sockets live in the run's TMPDIR, and the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="vllm-run-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        run_dir = Path(folder) / "run"
        polygen_stream(
            "run", "--run-dir", str(run_dir), *ON_THE_GPU, "--generators.backend", "eager",
            "--captions.source", "vllm", "--launch.captioner_python", python,
            "--captions.gpu_memory_utilization", "0.2", "--captions.batch", "64",
            "--captions.backlog", "128", "--captions.sleep_after_s", "2",
            "--captions.target", "400", "--train.steps", "200", "--ring.draw_timeout_s", "900",
            "--ring.samples_per_insert", "50", "--ring.error_buffer", "200",
        )  # fmt: skip
        summary = summary_of(run_dir)
        stage.record("micro run, vLLM: captions written (planned: its target)", 400, summary["captions"])
        assert summary["captions"] >= 300
        [written_by] = read_provenances(run_dir / "journal.jsonl")
        assert all(written_by[role]["engine"].startswith("vllm ") for role in ("writer", "editor"))
