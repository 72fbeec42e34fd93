"""What every role process does first and last: arguments, config, threads, signals, ring, exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, cast

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.base.secrets import RedactedStream
from polygen_stream.config import LaunchConfig, RunConfig, load_config
from polygen_stream.roles.device_lock import DeviceLock
from polygen_stream.roles.trace import TraceFile, Tracer

if TYPE_CHECKING:
    from polygen_stream.ring import Ring


LOWEST_PRIORITY = 19  # nice


class RoleContext:
    """What a role's main function works with."""

    def __init__(
        self, config: RunConfig, run_dir: Path, ring: Ring, name: str, generator: str | None, device: str = ""
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.run_folder = RunFolder(run_dir)
        self.ring = ring
        self.name = name  # unique in the run, e.g. "renderer-micro-sd15"; its log is run_dir/logs/<name>.log
        self.generator = generator  # recipe name of a renderer, None for other roles
        self.device = device or config.generators.device  # of a renderer, the evaluator, or the report
        self._stopping = False

    def device_lock(self, device: str) -> DeviceLock:
        """Return this process's lock on a device; with launch.time_slice_s = 0 it always has it."""
        return DeviceLock(
            self.run_folder.device_locks, "cuda:0" if device == "cuda" else device, self.config.launch.time_slice_s
        )

    @property
    def stopping(self) -> bool:
        """True once SIGTERM arrived: finish the current unit of work, save what must be saved, return."""
        return self._stopping


def role_threads(launch: LaunchConfig, role: str) -> int:
    """Return the compute threads of a role; roles without a key of their own (the report) get one."""
    return getattr(launch, f"{role}_threads", 1)


def yield_cores() -> None:
    """Leave the cores to the other processes of the run: this one runs when they do not.

    Its session is a scheduling group of its own where the kernel groups by session (sched_autogroup), and a nice value
    then says nothing to other sessions: the group's own does.
    """
    os.nice(LOWEST_PRIORITY - os.nice(0))
    if os.getsid(0) == os.getpid():  # else the group is a terminal's, with the user's shell in it
        with suppress(OSError):  # a kernel without such groups
            Path("/proc/self/autogroup").write_text(str(LOWEST_PRIORITY))


def run_role(main: Callable[[RoleContext], None], role: str) -> NoReturn:
    """Run a role's main function as this process and exit.

    Exit code 0 when `main` returns, the error's own code for PolygenError and UserError, 1 for anything else.
    The last line of stderr (which is the role's log) then reads "error: ...", which the supervisor repeats. What is
    written to stdout and stderr has no secrets in it.
    """
    sys.stdout, sys.stderr = (cast(TextIO, RedactedStream(stream)) for stream in (sys.stdout, sys.stderr))
    try:
        _run(main, role)
    except PolygenError as problem:
        _last_line(str(problem))
        sys.exit(problem.exit_code)
    except Exception as problem:
        # The boundary of the process: whatever it was, the log gets the traceback and the user one line.
        traceback.print_exc()
        _last_line(f"{type(problem).__name__}: {problem}")
        sys.exit(1)
    sys.exit(0)


def _run(main: Callable[[RoleContext], None], role: str) -> None:
    # The supervisor decides what Ctrl-C means; a terminal would send it to every process at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog=f"polygen-stream {role}")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--ring-fd", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--generator")
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, help="default: what the config has for the role")
    arguments = parser.parse_args()

    config = load_config(RunFolder(arguments.run_dir).config)
    _limit_threads(arguments.threads or role_threads(config.launch, role))
    # Grandchildren (vLLM forks, engine builders) must not hold the ring open.
    os.set_inheritable(arguments.ring_fd, False)

    from polygen_stream.ring import Ring  # after the thread limit: it loads numpy

    ring = Ring.attach(arguments.ring_fd)
    tracer = Tracer(TraceFile(arguments.run_dir, arguments.name)) if config.launch.trace else None
    if tracer:
        ring.observe(tracer.heartbeat)
    try:
        named = (arguments.name, arguments.generator, arguments.device)
        context = RoleContext(config, arguments.run_dir, ring, *named)

        def stop(_signal: int, _frame: object) -> None:
            context._stopping = True  # nothing else: a handler must never touch the ring

        signal.signal(signal.SIGTERM, stop)
        ring.register(role, arguments.name)
        main(context)
    finally:
        if tracer:
            tracer.close()
        ring.close()


def _limit_threads(threads: int) -> None:
    # OpenMP, MKL and OpenBLAS read their variables when they are loaded. The supervisor has set them already;
    # this covers a role that was started by hand, and torch, which its module may have imported by now.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _last_line(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
