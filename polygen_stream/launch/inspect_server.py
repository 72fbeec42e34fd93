"""The supervisor's side of `polygen-stream inspect`: hands out copies of the ring's columns.

An inspector gets two descriptors over a unix socket: a snapshot of the columns in memory, made here under the
mutex, and the ring opened for reading only, for the pictures. So it never holds the mutex and cannot write, and
whatever becomes of it, the ring does not notice. It says nothing itself: to connect is to ask, and the answer
fits into the socket's buffer, so the supervisor never waits for it.

The socket's address is abstract: it has no file, no limit on the length of the run folder's path, and the kernel
removes it at any kind of death. It has no permissions either; the uid the kernel vouches for is checked.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from polygen_stream.errors import UserError
from polygen_stream.ring import Ring
from polygen_stream.ring.snapshot import snapshot_in_memory

WAITING_INSPECTORS = 16


def address(run_dir: Path) -> str:
    """Where the supervisor of a run folder listens; the same by whatever path the folder is called."""
    folder = run_dir.stat()
    return f"\0polygen-stream/{folder.st_dev:x}-{folder.st_ino:x}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end, from the kernel."""
    pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


class InspectServer:
    """Listens for inspectors of one run; `serve` answers those that have come."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(address(run_dir))
            self._socket.listen(WAITING_INSPECTORS)
        except OSError as error:  # a sandbox, or somebody who sits on our address: no reason not to train
            print(f"polygen-stream inspect will not see this run: {error.strerror}", file=sys.stderr)

    def serve(self, ring: Ring) -> None:
        """Answers all waiting inspectors with one copy. Raises what taking the ring's mutex raises."""
        with ExitStack() as stack:
            waiting = [stack.enter_context(connection) for connection in self._accept()]
            if not waiting:
                return
            try:
                snapshot = snapshot_in_memory(ring)
                stack.callback(os.close, snapshot)
                pictures = os.open(f"/proc/self/fd/{ring.fd}", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, pictures)
            except (UserError, OSError) as error:  # short of memory or descriptors: the run does not end for that
                _answer(waiting, f"the run cannot be looked at now: {error}", [])
                return
            _answer(waiting, "ring", [snapshot, pictures])

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> list[socket.socket]:
        accepted = []
        with suppress(OSError):  # nobody waits (any more), or descriptors are short: the others ask again
            while len(accepted) < WAITING_INSPECTORS:
                connection, _ = self._socket.accept()
                _, uid = peer(connection)
                if uid in (0, os.geteuid()):
                    accepted.append(connection)
                else:
                    _answer([connection], f"this run belongs to uid {os.geteuid()}, not to uid {uid}", [])
                    connection.close()
        return accepted


def _answer(connections: list[socket.socket], text: str, descriptors: list[int]) -> None:
    for connection in connections:
        with suppress(OSError):  # it went away
            connection.setblocking(False)
            socket.send_fds(connection, [text.encode()], descriptors)
