"""The guardian: ends a run whose supervisor was killed.

Parent-death signals are lost on fork (and vLLM forks), so the run hangs on a life-line instead: this process
reads a pipe whose only write end is in the supervisor. The kernel closes it at any kind of death. At end of
file without a goodbye the guardian SIGKILLs the process groups it was given, then whatever else carries the
run's mark in its environment (a grandchild in a session of its own, a child started a moment before its line
was written), and removes the run's temporary files.

Runs as a plain file under `python -I -S`: standard library only, about 10 ms to start, and it must never
import the rest of the package. The supervisor imports its functions for its own last sweep.

    guardian.py MARK SCRATCH_DIR RUN_DIR      lines on stdin: "add PID START_TIME", "drop PID", "bye"
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

MARK_VARIABLE = "POLYGEN_STREAM_RUN"
PARTIAL = ".partial-"  # prefix of files and folders that are still being written
SWEEP_LIMIT_S = 5.0
SHARED_MEMORY = "/dev/shm"


def start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot (/proc/PID/stat, field 22); None without such a process.

    A pid with its start time names a process for good; a pid alone may be reused.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name, field 2, may hold spaces and brackets: count from the last bracket.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def marked(mark: str) -> list[int]:
    """Return the pids of all living processes, except this one, that inherited the run's mark."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                environment = file.read()
        except OSError:  # gone meanwhile, or another user's
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry))
    return found


def kill_marked(mark: str) -> int:
    """SIGKILL everything that carries the mark until two looks in a row find nothing, and return how many."""
    killed: set[int] = set()
    deadline = time.monotonic() + SWEEP_LIMIT_S
    empty_looks = 0
    while empty_looks < 2 and time.monotonic() < deadline:
        pids = marked(mark)
        empty_looks = 0 if pids else empty_looks + 1
        for pid in pids:
            kill(pid, os.kill)
        killed.update(pids)
        time.sleep(0.02)
    return len(killed)


def kill(pid: int, how=os.killpg) -> None:
    """SIGKILL a process group (or, with os.kill, one process) that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signal.SIGKILL)


def remove_temporary(scratch_dir: str, run_dir: str) -> None:
    """Remove what a run leaves: scratch folder, half-written files and folders of the run folder, shared memory.

    Args:
        scratch_dir: TMPDIR of the run's processes. The last word of its name is the run's mark, which the names of the
            run's shared memory contain.
        run_dir: The run folder.
    """
    shutil.rmtree(scratch_dir, ignore_errors=True)
    mark = scratch_dir.rpartition("-")[2]
    with contextlib.suppress(OSError):  # a container may have none
        for name in os.listdir(SHARED_MEMORY):
            if mark in name:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(SHARED_MEMORY, name))
    for folder, folders, files in os.walk(run_dir):
        for name in filter(_is_partial, list(folders)):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            folders.remove(name)
        for name in filter(_is_partial, files):
            with contextlib.suppress(OSError):  # its writer renamed it, or the disk is gone
                os.unlink(os.path.join(folder, name))


def _is_partial(name: str) -> bool:
    return name.startswith(PARTIAL) or name.endswith(".tmp")


def main(mark: str, scratch_dir: str, run_dir: str) -> None:
    """Wait for the supervisor's end, and end its run if it was killed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin.buffer:
        words = line.split()
        if words[0] == b"bye":
            return
        if words[0] == b"add":
            groups[int(words[1])] = int(words[2])
        elif words[0] == b"drop":
            groups.pop(int(words[1]), None)
    alive = [pid for pid, started in groups.items() if start_time(pid) == started]
    # A leader that is gone may have left helpers, and while its group exists its number is not reused.
    for pid in (*alive, *(pid for pid in groups if start_time(pid) is None)):
        kill(pid)
    kill_marked(mark)
    remove_temporary(scratch_dir, run_dir)
    # Show the cursor again: the supervisor may have died with its live view on the screen.
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):  # the terminal may be what killed the supervisor
        print(
            f"{show_cursor}error: the supervisor was killed; its guardian ended the {len(alive)} processes of "
            f"the run in {run_dir}",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
