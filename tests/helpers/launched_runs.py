"""A toy run as a child process of a test, and everything it must not leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from polygen_stream.base.jsonl import read_jsonl

TOY = Path(__file__).with_name("toy_run.py")


class Launched:
    """A started `command` whose last argument is the run folder; sees the processes of the run from outside."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        words: tuple[str, ...] = (),
        run_dir: Path | None = None,
        output: int | None = None,
        umask: int = -1,
        **environment: str,
    ):
        """output: descriptor that stdout and stderr go to, instead of files."""
        folder.mkdir(exist_ok=True)
        self.run_dir = run_dir or folder / "run"
        self.scratch = folder / "scratch"  # TMPDIR of the whole run
        self.scratch.mkdir()
        self._shm = set(os.listdir("/dev/shm"))
        self._seen: dict[int, psutil.Process] = {}
        self._output = (folder / "stdout").open("w+"), (folder / "stderr").open("w+")
        self.popen = subprocess.Popen(
            [*command, str(self.run_dir), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.scratch), **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output[0] if output is None else output,
            stderr=self._output[1] if output is None else output,
            start_new_session=True,
            umask=umask,
            # As in a terminal, wherever the tests run (nohup).
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self._supervisor = psutil.Process(self.popen.pid)

    def processes(self) -> dict[str, psutil.Process]:
        """Living processes of the run by name: role names as in --name, "guardian", "stray", else the pid."""
        found = {}
        try:
            everyone = self._supervisor.children(recursive=True)
        except psutil.NoSuchProcess:
            everyone = []
        for process in everyone:
            self._seen[process.pid] = process
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "--name" in words:
                found[words[words.index("--name") + 1]] = process
            elif any(word.endswith("guardian.py") for word in words):
                found["guardian"] = process
            elif "sleep" in words:
                found["stray"] = process
            else:
                found[str(process.pid)] = process
        return found

    def process(self, name: str) -> psutil.Process:
        """The process called `name`, waited for."""
        if name == "supervisor":
            return self._supervisor
        self.wait_until(lambda: name in self.processes(), f"{name} to start")
        return self.processes()[name]

    def assert_goes_on_without(self, label: str, killed_by: str = "died with signal SIGKILL") -> None:
        """One generator of two is no reason to end a run: what is left of it trains, and stops when asked to.

        label: of the renderer. killed_by: how it ended.
        """

        def degraded() -> list[dict]:
            return [event for event in read_jsonl(self.run_dir / "events.jsonl") if event["event"] == "degraded"]

        self.wait_until(degraded, "the generator to be given up")
        [event] = degraded()
        assert label == f"renderer {event['generator']}"
        assert f"{label} {killed_by}" in event["reason"], event
        steps = self.steps()
        self.wait_until(lambda: self.steps() > steps, "a step without it", limit_s=240)
        self.process("supervisor").send_signal(signal.SIGINT)
        assert self.wait() == 130
        assert [lost["generator"] for lost in self.summary["degraded"]] == [event["generator"]]
        self.assert_nothing_left()

    def steps(self) -> int:
        """Training steps done so far."""
        metrics = self.run_dir / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def wait_until(self, done: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < deadline, f"waited {limit_s} s for {what}\n{self.stderr}"
            self.processes()
            time.sleep(0.01)

    def wait(self, limit_s: float = 60.0) -> int:
        """Exit code of the supervisor as subprocess gives it."""
        self.wait_until(lambda: self.popen.poll() is not None, "the supervisor to exit", limit_s)
        return self.popen.returncode

    @property
    def stdout(self) -> str:
        self._output[0].seek(0)
        return self._output[0].read()

    @property
    def stderr(self) -> str:
        self._output[1].seek(0)
        return self._output[1].read()

    @property
    def summary(self) -> dict:
        return json.loads((self.run_dir / "summary.json").read_text())

    def assert_nothing_left(self, limit_s: float = 3.0) -> None:
        """No process (so no ring: it is anonymous memory), no shared memory, no temporary file."""
        assert len(self._seen) > 1, "the test saw no processes, so it cannot tell whether they are gone"
        self.wait_until(lambda: not self._alive(), "the run's processes to go", limit_s)
        self.wait_until(
            lambda: not abandoned(set(os.listdir("/dev/shm")) - self._shm), "/dev/shm to be as before", 10.0
        )
        assert list(self.scratch.iterdir()) == []
        partial = [path for path in self.run_dir.rglob("*") if path.name.startswith(".partial-")]
        assert partial == []

    def handles(self, name: str, number: int) -> bool:
        """Whether process `name` has a handler for a signal (SigCgt in /proc/PID/status)."""
        with open(f"/proc/{self.process(name).pid}/status") as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
        return bool(caught >> (number - 1) & 1)

    def _alive(self) -> list[psutil.Process]:
        # A zombie is gone: it waits for a parent that collects it, which is not ours to provide.
        return [
            process
            for process in self._seen.values()
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def close(self) -> None:
        """After a failed test: ends what is left of this run, and nothing else."""
        self.processes()  # also those that were started since somebody last looked
        for process in [*self._alive(), self._supervisor]:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        self.popen.wait()
        for file in self._output:
            file.close()


def abandoned(names: set[str]) -> set[str]:
    """The files of /dev/shm that no living process has mapped; tests beside this one have files of their own there.

    By inode: a process that made a named semaphore has mapped it under a name that it had before.
    """
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # it has ended
            mapped |= {line.split()[4] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    left = set()
    for name in names:
        with suppress(FileNotFoundError):
            if str(os.stat(f"/dev/shm/{name}").st_ino) not in mapped:
                left.add(name)
    return left


def toy(folder: Path, *words: str, **environment: str) -> Launched:
    return Launched(folder, [sys.executable, str(TOY), "supervise"], words, **environment)


def resumed_toy(folder: Path, run: Launched, **environment: str) -> Launched:
    """Goes on with the folder of another toy run."""
    return Launched(folder, [sys.executable, str(TOY), "resume"], run_dir=run.run_dir, **environment)
