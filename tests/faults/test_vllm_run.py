"""A whole run with its captioner under vLLM's interpreter, and what is left of it after the worst."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
from launched import Launched

PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
TINY = (
    "--captions.source", "vllm",
    "--launch.captioner_python", str(PYTHON),
    "--captions.batch", "64",
    "--captions.backlog", "128",
    "--generators.recipes", "micro/sdxl_turbo",
    "--generators.positives", "1",
    "--generators.negatives", "1",
    "--generators.backend", "eager",
    "--ring.min_fill", "64",
    "--train.batch", "64",
    "--evaluate.images_per_thing", "2",
)  # fmt: skip


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*words: str) -> Launched:
        command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir"]
        started.append(Launched(tmp_path, command, (*TINY, *words)))
        return started[-1]

    yield start
    for run in started:
        run.close()


def engines(run: Launched) -> list[psutil.Process]:
    found = []
    for process in run.processes().values():
        try:
            if "VLLM::EngineCore" in process.cmdline()[0]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def test_a_run_whose_captioner_has_an_interpreter_of_its_own(start):
    run = start("--train.steps", "30", "--captions.target", "400", "--captions.rest_after_s", "1")
    run.wait_until(lambda: "captioner" in run.processes(), "the captioner")
    assert run.process("captioner").cmdline()[0] == str(PYTHON)
    assert run.process("trainer").cmdline()[0] == sys.executable
    assert run.wait(limit_s=1500) == 0, run.stderr
    run.assert_nothing_left()
    assert run.summary["status"] == "completed"
    lines = [json.loads(line) for line in (run.run_dir / "journal.jsonl").read_text().splitlines()]
    assert lines[0]["provenance"]["writer"]["engine"].startswith("vllm ")
    assert sum("caption" in line for line in lines) == 400
    assert any(line["kind"] == "pair" for line in lines[1:])


@pytest.mark.parametrize("victims", [("captioner",), ("captioner", "supervisor")], ids=["captioner", "both"])
def test_kill_of_the_captioner_leaves_no_engine(start, victims):
    """Engines rename themselves and outlive their parent: they are found by group and by mark."""
    run = start("--train.steps", "100000", "--captions.target", "0")
    run.wait_until(lambda: len(engines(run)) == 2, "two engines", limit_s=900)
    run.wait_until(lambda: run.steps() > 0, "the first step", limit_s=900)
    for victim in victims:
        run.process(victim).send_signal(signal.SIGSTOP)  # so that nobody reacts before all are dead
    for victim in victims:
        run.process(victim).send_signal(signal.SIGKILL)
    assert run.wait(limit_s=60) == (1 if victims == ("captioner",) else -signal.SIGKILL)
    run.assert_nothing_left(limit_s=10)
