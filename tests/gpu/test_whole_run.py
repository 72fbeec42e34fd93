"""Runs of the micro preset on a GPU: with compiled engines to the end, and with a captioner under vLLM."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from polygen_stream.captions.journal import read_provenances

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]
VLLM_PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"
ON_THE_GPU = [word for of in ("captions", "generators", "train", "evaluate") for word in (f"--{of}.device", "cuda:0")]


def polygen_stream(*words: str) -> str:
    """What the command says, once it has ended well."""
    done = subprocess.run([sys.executable, "-m", "polygen_stream", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_micro_preset_trains_to_its_end_on_compiled_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tensorrt")
    monkeypatch.setenv("POLYGEN_STREAM_CACHE", str(tmp_path / "cache"))
    polygen_stream("build-engines", "--backend", "tensorrt")
    run_dir = tmp_path / "run"
    # A GPU would train on what few captions there are: each is drawn as often as in the run that is compared with.
    pace = ("--ring.samples_per_insert", "37", "--ring.error_buffer", "4000", "--ring.draw_timeout_s", "900")
    polygen_stream("run", "--run-dir", str(run_dir), *ON_THE_GPU, "--generators.backend", "tensorrt", *pace)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["status"] == "completed" and summary["steps"] == 1400
    assert len(summary["images"]) == 4 and min(summary["images"].values()) > 0
    logs = [log.read_text() for log in (run_dir / "logs").glob("renderer-*.log")]
    assert len(logs) == 4 and not any("eager" in log for log in logs), logs
    # On two CPU cores 81.7 ± 0.4 %: a GPU rounds otherwise, and trains in bfloat16.
    assert summary["evaluation"]["trained"]["zero_shot_things"] > 0.65


def test_a_captioner_under_vllm_writes_what_its_validators_accept(monkeypatch: pytest.MonkeyPatch):
    python = sys.executable if importlib.util.find_spec("vllm") else str(VLLM_PYTHON)
    if not Path(python).exists():
        pytest.skip(f"no vLLM in this interpreter, and no {VLLM_PYTHON}: README, GPUs, has the command")
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
        summary = json.loads((run_dir / "summary.json").read_text())
        assert summary["status"] == "completed" and summary["captions"] >= 300
        [written_by] = read_provenances(run_dir / "journal.jsonl")
        assert all(written_by[role]["engine"].startswith("vllm ") for role in ("writer", "editor"))
