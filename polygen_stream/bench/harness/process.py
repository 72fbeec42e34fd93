"""The measuring side of host.py: peers in processes of their own, rounds one after the other, nothing left behind."""

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
from polygen_stream.bench.harness.workload import Work

ROUND_TIMEOUT_S = 300.0
CLOSE_TIMEOUT_S = 10.0
PACKAGE_ROOT = Path(__file__).resolve().parents[3]
CHECK_EVERY = 100  # timed rounds compare the bytes of 1 % of the samples


class BaselineFailed(PolygenError):
    """A peer did not do its work: it damaged a sample, raised, died or did not answer."""


class Host:
    """A peer at work in its own process. Use it as a context manager: leaving it ends every process of the peer."""

    def __init__(self, name: str, work: Work, python: str = sys.executable) -> None:
        self.name = name
        self.work = work
        self._next = 0
        # everything the peer's libraries leave in the file system; Ray's sockets need the path to be short
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
            [python, "-m", "polygen_stream.bench.harness.worker", self.name, self.work.to_json(), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            # a group of its own: Ctrl-C reaches us alone, and one signal reaches the whole peer. No session of its own:
            # the kernel shares the processors out by session, and many processes would get no more than one
            process_group=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE_ROOT), "TMPDIR": self._scratch.name},
        )

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def round(self, every: int = CHECK_EVERY) -> dict[str, Any]:
        """One round of work.images samples, the bytes of every `every`-th compared. Raises BaselineFailed."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # _answer finds the reason
            self._process.stdin.write(json.dumps({"first": self._next, "every": every}) + "\n")
        self._next += self.work.images
        return self._answer()

    def memory(self) -> tuple[int, int]:
        """Bytes all processes of the peer have resident, and those of them that no other process shares."""
        host = psutil.Process(self._process.pid)
        infos = [process.memory_full_info() for process in [host, *host.children(recursive=True)]]
        return sum(info.rss for info in infos), sum(info.uss for info in infos)

    def close(self) -> None:
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self._process.stdin.close()
                self._process.wait(CLOSE_TIMEOUT_S)
        finally:  # also when Ctrl-C came meanwhile
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
            why = "died" if ready else f"did not answer in {ROUND_TIMEOUT_S:.0f} s"
            raise BaselineFailed(f"bench: {self.name} {why}; its last words: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BaselineFailed(f"bench: {self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text().splitlines() if line.strip()]
        return lines[-1] if lines else "none"


def interleave(hosts: list[Host], rounds: int) -> list[list[dict[str, Any]]]:
    """`rounds` answers of each host, taken in turns so that the noise of the machine hits all alike.

    Every host first does a round in which all bytes are compared, which is also its warm-up.
    """
    answers: list[list[dict[str, Any]]] = [[] for _ in hosts]
    for host in hosts:
        host.round(every=1)
    for number in range(rounds):
        for place in range(len(hosts)):
            turn = (place + number) % len(hosts)  # nobody always comes after the same one
            answers[turn].append(hosts[turn].round())
    return answers
