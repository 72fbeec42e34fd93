"""Child processes of a run: start, reap, signal, and say how one died.

Every child leads a session of its own, so the terminal's Ctrl-C reaches the supervisor alone, and has stdin
closed and its output in its own log file (a pipe that is not drained blocks the writer).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import PolygenError, RankLost
from polygen_stream.base.home import has_home
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch import guardian
from polygen_stream.launch.process_plan import ProcessSpec

STOP_POLL_S = 0.05


@dataclass(eq=False)
class Child:
    """A started process. `returncode` is None while it lives, else subprocess's (-N: died of signal N)."""

    process: ProcessSpec
    popen: subprocess.Popen
    log: Path
    started: float  # monotonic seconds
    returncode: int | None = None
    stopping: bool = False  # stopped by the supervisor: its exit code is no failure
    asked: bool = False  # to finish its work and end: if it fails to, that is its failure
    killed: bool = False  # by us, because it did not
    reason: str | None = None  # why we killed it, if not for that
    lost: bool = False  # it ended before its work was done
    work_before: int = 0  # work that this process or an earlier one in its place had done when it started
    plans: str = ""  # what becomes of it now that it has died, for the live view

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped."""
        return self.returncode is None

    @property
    def done(self) -> bool:
        """Whether it ended with its work done."""
        return self.returncode == 0 and not self.lost

    def signal(self, number: int) -> None:
        """Signal the child itself, not its group: it ends its own helpers in its own order."""
        if self.alive:
            # Not popen.send_signal, which may reap; unreaped, the pid cannot be anybody else's.
            os.kill(self.popen.pid, number)


class ChildDied(PolygenError):
    """A process of the run ended that should not have. exit_code: 2 when it blamed its input, else 1."""

    def __init__(self, child: Child, reason: str | None = None):
        super().__init__(f"{reason or how_it_ended(child)}\n  log: {child.log}")
        self.exit_code = 2 if child.returncode == 2 else 1


class Children:
    """The processes of one run together with their guardian.

    One thread only. `close()` leaves nothing behind, whatever state the run is in.
    """

    def __init__(self, run_dir: Path, ring_fd: int, held: Sequence[int] = ()):
        self.run_dir = run_dir
        self.ring_fd = ring_fd
        self._held = tuple(held)  # kept open by every child, and used by none
        self.all: list[Child] = []
        self._mark = secrets.token_hex(8)
        # A short path outside the run folder: sockets live here too, and their paths are limited to 107 B.
        self._scratch = os.path.join(tempfile.gettempdir(), f"polygen-stream-{self._mark}")
        read_end, self._lifeline = os.pipe()  # close-on-exec: no other process ever holds the write end
        self.guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, self._mark, self._scratch, str(run_dir)],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_end)
        os.mkdir(self._scratch, 0o700)  # only now that the guardian would remove it

    def start(self, process: ProcessSpec, more_env: Mapping[str, str] | None = None) -> Child:
        """Start `process`, in the place of the child of that name that died, if there is one.

        Each attempt has a log of its own: RUN_DIR/logs/NAME.log, then NAME.2.log and so on.
        """
        log = self._new_log(process.name)
        mark = {guardian.MARK_VARIABLE: self._mark, "TMPDIR": self._scratch}
        # Libraries write into the home folder (matplotlib, Triton), and some end the process where there is none.
        home = {} if has_home() else {"HOME": self._scratch}
        environment = {**os.environ, **home, **process.env, **(more_env or {}), **mark}
        with log.open("ab") as output:
            popen = subprocess.Popen(
                process.argv(self.run_dir, self.ring_fd),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(self.ring_fd, *self._held),
                start_new_session=True,
            )
        child = Child(process, popen, log, time.monotonic())
        for place, other in enumerate(self.all):
            if other.process.name == process.name:
                self.all[place] = child
                break
        else:
            self.all.append(child)
        self._tell(f"add {popen.pid} {guardian.start_time(popen.pid)}")
        return child

    def _new_log(self, name: str) -> Path:
        attempts = (f"{name}{suffix}.log" for suffix in ("", *(f".{number}" for number in range(2, 10**6))))
        return next(log for log in (RunFolder(self.run_dir).logs / attempt for attempt in attempts) if not log.exists())

    def with_role(self, *roles: str) -> list[Child]:
        """Return the children of these roles."""
        return [child for child in self.all if child.process.role in roles]

    def named(self, name: str) -> Child:
        """Return the child of this name."""
        return next(child for child in self.all if child.process.name == name)

    def reap(self) -> list[Child]:
        """Collect the children that ended since the last call.

        Returns:
            First those that a signal killed, last those that ended because another one had.
        """
        ended: list[tuple[int, Child]] = []
        for child in self.all:
            if not child.alive:
                continue
            pid = child.popen.pid
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            guardian.kill(pid)  # helpers it left in its group; the unreaped pid cannot be anybody else's yet
            child.returncode = code = child.popen.wait()
            self._tell(f"drop {pid}")
            ended.append((code, child))
        ended.sort(key=lambda pair: (pair[0] >= 0, pair[0] == RankLost.exit_code))
        return [child for _, child in ended]

    def check_guardian(self) -> None:
        """Refuse to go on without the guardian: the run could outlive its supervisor.

        Raises:
            PolygenError: The guardian has ended.
        """
        code = self.guardian.poll()
        if code is not None:
            raise PolygenError(f"guardian {_ending(code)}")

    def kill(self, children: Iterable[Child]) -> None:
        """SIGKILL children with their groups. `reap` collects them."""
        for child in children:
            if child.alive:
                child.killed = True
                guardian.kill(child.popen.pid)

    def stop(self, grace_s: Mapping[Child, float], impatient: Callable[[], bool]) -> None:
        """Ask children to end, and kill those that have not after a while. Returns when all are gone.

        Args:
            grace_s: The children, and how long each may take.
            impatient: Whether to kill all that are left now.
        """
        for child in grace_s:
            child.stopping = True
            child.signal(signal.SIGTERM)
        began = time.monotonic()
        while waiting := [child for child in grace_s if child.alive]:
            waited_s = time.monotonic() - began
            self.kill(child for child in waiting if waited_s > grace_s[child] or impatient())
            time.sleep(STOP_POLL_S)
            self.reap()

    def wait_for_killed(self) -> list[Child]:
        """Wait until all that were killed are gone, and return those that ended since the last `reap`, in its order."""
        ended = self.reap()
        while any(child.killed and child.alive for child in self.all):
            time.sleep(0.01)
            ended += self.reap()
        return ended

    def close(self) -> None:
        """Kill what still lives, remove strays and temporary files, and dismiss the guardian."""
        self.kill(self.all)
        for child in self.all:
            if child.alive:
                child.returncode = child.popen.wait()
        guardian.kill_marked(self._mark)
        guardian.remove_temporary(self._scratch, str(self.run_dir))
        self._tell("bye")
        os.close(self._lifeline)
        try:
            self.guardian.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it was stopped (SIGSTOP)
            self.guardian.kill()
            self.guardian.wait()

    def _tell(self, line: str) -> None:
        # Broken: the guardian is dead, and check_guardian() says so at the next turn of the loop.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, f"{line}\n".encode())


def how_it_ended(child: Child) -> str:
    """Return in one line which process ended, how, and the last "error:" line of its log if it wrote one."""
    if child.reason:
        return child.reason
    if child.killed:
        return f"{child.process.label} did not stop in time and was killed"
    said = last_error(child.log)
    return f"{child.process.label} {_ending(child.returncode)}{': ' + said if said else ''}"


def last_error(log: Path) -> str:
    """Return the last line starting with "error:" in the last 64 KiB of a log, or ""."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("error:")), "")


def _ending(code: int | None) -> str:
    if code is None:
        return "has not ended"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"number {-code}"
    hint = " (out of memory, unless it was sent)" if name == "SIGKILL" else ""
    return f"died with signal {name}{hint}"
