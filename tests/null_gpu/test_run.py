"""`polygen-stream run` on eight GPUs: the processes of configs/node_8gpu.toml with miniature generators and noise."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import null_gpu
import pytest
from launched_runs import Launched

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.capacity.gpus import local_gpus
from polygen_stream.capacity.memory import gpu_needs
from polygen_stream.config import load_config
from polygen_stream.launch.process_plan import build_process_plan

pytestmark = [pytest.mark.rehearsal, pytest.mark.timeout(600)]
MODEL = str(null_gpu.TESTS / "helpers" / "tiny_vit.json")
WORDS = {
    "captions.source": "grammar", "captions.target": "0", "captions.backlog": "256",
    "generators.backend": "eager", "generators.device": "cuda:2", "generators.batch": "8",
    "ring.slots": "4096", "ring.min_fill": "64", "ring.draw_timeout_s": "300",
    "train.model": MODEL, "train.batch": "64", "train.accum_freq": "2", "train.steps": "30",
    "train.checkpoint_every": "15", "train.device": "cuda:0", "launch.hang_timeout_s": "300",
    "evaluate.every": "0", "evaluate.device": "cuda:1", "evaluate.images_per_thing": "2",
}  # fmt: skip


def renderers() -> str:
    """Return launch.renderers of configs/node_8gpu.toml, for the miniature of each generator."""
    placed = load_config("node_8gpu").launch.renderers
    return "{" + ", ".join(f'"micro/{name}" = {list(devices)}' for name, devices in placed.items()) + "}"


@pytest.fixture
def start(tmp_path: Path):
    """start(**changes to WORDS) -> Launched, on eight null GPUs; it and its processes end with the test."""
    runs = []
    (tmp_path / "counters").mkdir()

    def launch(changes: dict[str, str]) -> Launched:
        words = list(chain(*((f"--{key}", value) for key, value in {**WORDS, **changes}.items())))
        environment = null_gpu.environment(
            NULL_GPU_COUNTERS=str(tmp_path / "counters"), NULL_GPU_PICTURES="producers.renderer:32"
        )
        environment["PYTHONPATH"] = f"{null_gpu.TESTS / 'null_gpu' / 'site'}:{environment['PYTHONPATH']}"
        command = [sys.executable, "-m", "polygen_stream", "run", *words, "--run-dir"]
        runs.append(Launched(tmp_path, command, **environment))
        return runs[-1]

    yield launch
    for run in runs:
        run.close()


def allocated(folder: Path) -> dict[str, int]:
    """Return the most bytes of GPU memory that each process of a run had, by name."""
    peaks: dict[str, int] = {}
    for file in folder.iterdir():
        name = file.name.rpartition(".")[0]
        peaks[name] = max(peaks.get(name, 0), null_gpu.read_counters(file)["peak"])
    return peaks


def test_a_run_on_eight_gpus_completes_although_a_renderer_is_killed(start, tmp_path, record, monkeypatch):
    run = start({"launch.renderers": renderers()})
    run.wait_until(lambda: run.steps() > 3, "steps", 300)
    run.process("renderer-micro-sd15-2").send_signal(signal.SIGKILL)
    assert run.wait(300) == 0, run.stderr
    assert run.summary["status"] == "completed" and run.summary["steps"] == 30
    assert min(run.summary["images"].values()) > 0
    assert (run.run_dir / "report.html").stat().st_size > 10_000
    assert [e["event"] for e in read_jsonl(run.run_dir / "events.jsonl")].count("restart") == 1
    run.assert_nothing_left()
    log = (run.run_dir / "logs" / "evaluator.2.log").read_text()
    assert "on cuda:0, " in log and "step 30: zero-shot things" in log, "in the trainer's place when training is over"

    config = load_config(run.run_dir / "config.toml")
    for name, value in null_gpu.environment().items():
        monkeypatch.setenv(name, value)
    needs, peaks = gpu_needs(config, build_process_plan(config), local_gpus()), allocated(tmp_path / "counters")
    assert peaks["report"] > 0, "it encodes its pictures in the trainer's place too"
    for index, users in needs.items():
        for need in users:
            used = peaks[need.process.name] / null_gpu.GIB
            assert 0 < used <= need.gib, f"{need.process.name} has {used:.1f} GiB, planned are {need.gib:.1f}"
            record(f"run: {need.process.name} on cuda:{index}, GiB", f"{used:.2f}", f"{need.gib:.2f}")


def test_a_killed_rank_is_named_and_ends_the_run(start):
    ranks = {"train.ranks": "2", "train.device": "cuda", "train.steps": "100000", "launch.restarts": "0"}
    run = start({"generators.recipes": "micro/sdxl_turbo", **ranks})
    run.wait_until(lambda: run.steps() > 3, "steps", 300)
    run.process("trainer-1").send_signal(signal.SIGKILL)
    assert run.wait(60) == 1
    assert "error: trainer rank 1 died with signal SIGKILL" in run.stderr
    run.assert_nothing_left()


def test_the_dry_run_names_every_gpu():
    words = [
        "run",
        "node_8gpu",
        "--dry-run",
        "--captions.concepts",
        "bank.json",
        "--launch.captioner_python",
        sys.executable,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "polygen_stream", *words], env=null_gpu.environment(), capture_output=True, text=True
    )
    assert "80 GiB, NVIDIA A100-SXM4-80GB" in done.stdout, done.stdout + done.stderr
    assert all(f"cuda:{index} " in done.stdout for index in range(8))
