"""A whole run with its captioner under vLLM's interpreter, and what is left of it after the worst."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from launched_runs import Launched

from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal, read_provenances

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
    "--ring.draw_timeout_s", "900",
    "--train.batch", "64",
    "--evaluate.images_per_thing", "2",
)  # fmt: skip


@pytest.fixture
def start():
    started = []
    # Not tmp_path: vLLM's sockets live in the run's TMPDIR, and the path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="vllm-run-") as folder:

        def start(*words: str) -> Launched:
            command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir"]
            started.append(Launched(Path(folder), command, (*TINY, *words)))
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


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_run_whose_captioner_has_an_interpreter_of_its_own(start):
    run = start("--train.steps", "30", "--captions.target", "400")
    run.wait_until(lambda: "captioner" in run.processes(), "the captioner")
    assert run.process("captioner").cmdline()[0] == str(PYTHON)
    assert run.process("trainer").cmdline()[0] == sys.executable
    assert run.wait(limit_s=1500) == 0, run.stderr
    run.assert_nothing_left()
    assert run.summary["status"] == "completed"
    journal = run.run_dir / "journal.jsonl"
    entries = list(read_journal(journal))
    assert sum(isinstance(entry.outcome, Caption) for entry in entries) == 400
    assert any(entry.pair for entry in entries)
    [written_by] = read_provenances(journal)
    assert all(written_by[role]["engine"].startswith("vllm ") for role in ("writer", "editor"))


def test_a_killed_captioner_goes_on_where_it_was_with_new_engines(start):
    run = start("--train.steps", "100000", "--captions.target", "0")
    journal = run.run_dir / "journal.jsonl"
    run.wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 80, "captions", limit_s=900)
    first, captioner = engines(run), run.process("captioner")
    assert len(first) == 2
    captioner.send_signal(signal.SIGKILL)
    written = journal.read_bytes().count(b"\n")
    run.wait_until(lambda: not any(map(alive, first)), "the engines of the dead to go", limit_s=20)
    run.wait_until(lambda: journal.read_bytes().count(b"\n") > written + 80, "more captions", limit_s=900)
    assert run.process("captioner").pid != captioner.pid and len(engines(run)) == 2
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait(limit_s=120) == 130, run.stderr
    run.assert_nothing_left(limit_s=10)
    tasks = [entry.task.task_id for entry in read_journal(journal)]
    assert tasks == list(range(len(tasks))) and len(tasks) > 160, "a task is missing or there twice"


def test_kill_of_captioner_and_supervisor_at_once_leaves_no_engine(start):
    """Engines rename themselves and outlive their parent: the guardian finds them by group and by mark."""
    run = start("--train.steps", "100000", "--captions.target", "0")
    run.wait_until(lambda: len(engines(run)) == 2, "two engines", limit_s=900)
    run.wait_until(lambda: run.steps() > 0, "the first step", limit_s=900)
    victims = [run.process("supervisor"), run.process("captioner")]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, so that neither sees the other die
        for victim in victims:
            victim.send_signal(number)
    assert run.wait(limit_s=60) == -signal.SIGKILL
    run.assert_nothing_left(limit_s=20)
