"""Which processes are alive: a process is identified by pid and start time, because pids are used again."""

from __future__ import annotations

import os
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return the start time of a live process in clock ticks after boot; None when it is dead (a zombie is dead)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the command name before it may hold spaces and brackets
    state, started = fields[0], int(fields[19])
    return None if state in "ZX" else started


def is_alive(pid: int, started: int) -> bool:
    """Return whether the process of this pid is the one that started then."""
    return start_time(pid) == started


def process_of_thread(thread_id: int) -> int:
    """Return the id of the process a thread belongs to, 0 when it is gone."""
    try:
        text = Path(f"/proc/{thread_id}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Tgid:"))


def pid_namespace() -> int:
    """Return the identity of our PID namespace: pids in the process table mean nothing in another one."""
    return os.stat("/proc/self/ns/pid").st_ino
