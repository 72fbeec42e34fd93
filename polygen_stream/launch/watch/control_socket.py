"""How another process reaches the supervisor of a run: unix sockets with abstract addresses.

The socket's address is abstract: it has no file, no limit on the length of the run folder's path, and the kernel
removes it at any kind of death. It has no permissions either; the uid the kernel vouches for is checked.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from polygen_stream.base.errors import PolygenError

ANSWER_LIMIT_S = 30.0  # the supervisor looks once a second; it may be waiting for a stuck mutex


def address(run_dir: Path) -> str:
    """Where the supervisor of a run folder listens; the same by whatever path the folder is called."""
    folder = run_dir.stat()
    return f"\0polygen-stream/{folder.st_dev:x}-{folder.st_ino:x}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end, from the kernel."""
    pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def listen(where: str, waiting: int, command: str) -> socket.socket:
    """A socket by which `command` reaches a run; never blocks. Where it cannot listen, the run goes on all the same."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    try:
        listening.bind(where)
        listening.listen(waiting)
    except OSError as error:  # a sandbox, or somebody who sits on our address: no reason not to train
        print(f"polygen-stream {command} will not reach this run: {error.strerror}", file=sys.stderr)
    return listening


def accept(listening: socket.socket, most: int, refusal: Callable[[str], bytes]) -> list[socket.socket]:
    """Up to `most` connections of the run's own user or root; others are told why not, in the command's own words."""
    accepted = []
    with suppress(OSError):  # nobody waits (any more), or descriptors are short: the others ask again
        while len(accepted) < most:
            connection, _ = listening.accept()
            _, uid = peer(connection)
            if uid in (0, os.geteuid()):
                accepted.append(connection)
                continue
            with connection, suppress(OSError):
                connection.setblocking(False)
                connection.sendall(refusal(f"this run belongs to uid {os.geteuid()}, not to uid {uid}"))
    return accepted


def connect_to_run(connection: socket.socket, where: str, run_dir: Path) -> int | None:
    """Connects to a run's supervisor; its pid, or None when nobody runs in this folder.

    Raises PolygenError when it is somebody else who answers.
    """
    try:
        connection.connect(where)
    except ConnectionRefusedError:
        return None
    pid, uid = peer(connection)
    owner = run_dir.stat().st_uid
    if uid not in (owner, os.geteuid(), 0):  # anybody may sit on an abstract address
        raise PolygenError(f"{run_dir} belongs to uid {owner}, but uid {uid} (pid {pid}) answers for it")
    return pid


def no_answer(pid: int, run_dir: Path, answer_limit_s: float) -> PolygenError:
    return PolygenError(
        f"the supervisor (pid {pid}) of {run_dir} gave no answer in {answer_limit_s:g} s; "
        "is it stopped or in a debugger?"
    )
