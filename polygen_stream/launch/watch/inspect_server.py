"""The supervisor's side of `polygen-stream inspect`: hands out copies of the ring's columns.

An inspector gets two descriptors over a unix socket: a snapshot of the columns in memory, made here under the
mutex, and the ring opened for reading only, for the pictures. So it never holds the mutex and cannot write, and
whatever becomes of it, the ring does not notice. It says nothing itself: to connect is to ask, and the answer
fits into the socket's buffer, so the supervisor never waits for it.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.launch.watch.control_socket import accept, address, listen
from polygen_stream.ring import Ring
from polygen_stream.ring.snapshot import snapshot_in_memory

WAITING_INSPECTORS = 16


class InspectServer:
    """Listens for inspectors of one run; `serve` answers those that have come."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = listen(address(run_dir), WAITING_INSPECTORS, "inspect")

    def serve(self, ring: Ring) -> None:
        """Answers all waiting inspectors with one copy. Raises what taking the ring's mutex raises."""
        with ExitStack() as stack:
            waiting = [stack.enter_context(asker) for asker in accept(self._socket, WAITING_INSPECTORS, str.encode)]
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


def _answer(connections: list[socket.socket], text: str, descriptors: list[int]) -> None:
    for connection in connections:
        with suppress(OSError):  # it went away
            connection.setblocking(False)
            socket.send_fds(connection, [text.encode()], descriptors)
