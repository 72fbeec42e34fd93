"""Baselines in processes of their own, seen from the measuring process: rounds in turn, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import psutil

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.python import python_command
from polygen_stream.bench.harness.baseline import BaselineEntry
from polygen_stream.bench.harness.workload import Work

ROUND_TIMEOUT_S = 300.0
CLOSE_TIMEOUT_S = 10.0
WORKER = "polygen_stream.bench.harness.worker"
PACKAGE_ROOT = Path(__file__).resolve().parents[3]
CHECK_EVERY = 100  # timed rounds compare the bytes of 1 % of the samples


class BaselineFailed(PolygenError):
    """A baseline damaged a sample, raised, died or did not answer."""


class BaselineProcess:
    """A baseline at work in a process of its own; a context manager that ends every process of the baseline.

    Args:
        entry: The baseline.
        work: The workload.
        python: Interpreter that has the packages it needs.

    Raises:
        BaselineFailed: It did not start.
    """

    def __init__(self, entry: BaselineEntry, work: Work, python: str = sys.executable) -> None:
        self.name = entry.name
        self._target = entry.target
        self.work = work
        self._next = 0
        # whatever the baseline's libraries leave in the file system; Ray's sockets need a short path
        self._scratch = tempfile.TemporaryDirectory(prefix="pgb-", ignore_cleanup_errors=True)
        self._log = Path(self._scratch.name) / "log"
        with self._log.open("w") as log:
            self._process = self._start(python, log)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _start(self, python: str, log: IO[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            python_command("-m", WORKER, self._target, self.work.to_json(), str(os.getpid()), python=python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            # A process group of its own: Ctrl-C reaches only the measuring process, and one signal the whole baseline.
            # Not a session of its own: the kernel divides processor time by session, whatever their processes.
            process_group=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE_ROOT), "TMPDIR": self._scratch.name},
        )

    def __enter__(self) -> BaselineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round(self, every: int = CHECK_EVERY) -> dict[str, Any]:
        """Run one round of work.images samples.

        Args:
            every: Compare the bytes of every so many samples.

        Returns:
            {"seconds": duration} and what the producers measured.

        Raises:
            BaselineFailed: It damaged a sample, raised, died or did not answer within ROUND_TIMEOUT_S.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # _answer reports the reason
            self._process.stdin.write(json.dumps({"first": self._next, "every": every}) + "\n")
        self._next += self.work.images
        return self._answer()

    def memory(self) -> tuple[int, int]:
        """Return the resident bytes of all its processes, and the bytes among them that no other process shares."""
        worker = psutil.Process(self._process.pid)
        infos = [process.memory_full_info() for process in [worker, *worker.children(recursive=True)]]
        return sum(info.rss for info in infos), sum(info.uss for info in infos)

    def close(self) -> None:
        """End every process of the baseline and delete what it left in shared memory and temporary folders."""
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(CLOSE_TIMEOUT_S)
        finally:  # after Ctrl-C too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for left in Path("/dev/shm").glob(f"*{Path(self._scratch.name).name}*"):
                left.unlink(missing_ok=True)
            self._scratch.cleanup()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], ROUND_TIMEOUT_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            reason = "died" if ready else f"did not answer within {ROUND_TIMEOUT_S:.0f} s"
            raise BaselineFailed(f"bench: {self.name} {reason}; last line of its log: {self._last_line()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BaselineFailed(f"bench: {self.name}: {answer['error']}")
        return answer

    def _last_line(self) -> str:
        lines = [line.strip() for line in self._log.read_text().splitlines() if line.strip()]
        return lines[-1] if lines else "none"


def interleave(processes: list[BaselineProcess], rounds: int) -> list[list[dict[str, Any]]]:
    """Run rounds of several baselines in turn, so that other load on the machine affects all alike.

    Each first runs a warm-up round in which all bytes are compared.

    Args:
        processes: The baselines.
        rounds: Measured rounds of each.

    Returns:
        The answers of each process, in the order of `processes`.
    """
    answers: list[list[dict[str, Any]]] = [[] for _ in processes]
    for process in processes:
        process.round(every=1)
    for number in range(rounds):
        for offset in range(len(processes)):
            index = (offset + number) % len(processes)  # the order rotates from round to round
            answers[index].append(processes[index].round())
    return answers
