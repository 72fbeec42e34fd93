"""The supervisor's side of the control socket. See control_protocol.py.

The supervisor never waits for a client: requests are read as far as they have come, and an answer fits into the
socket's buffer. Clients never hold the ring's mutex and cannot write into it, so whatever becomes of one, the ring does
not notice.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.launch.watch.control_protocol import REQUEST_BYTES, Answer, address, encode, peer
from polygen_stream.ring import Limits, Ring
from polygen_stream.ring.snapshot import snapshot_in_memory

MOST_CLIENTS = 16  # at a time; more wait in the socket's queue, which is as long
REQUEST_LIMIT_S = 5.0  # between a connection and its request
LIMITS = tuple(each.name for each in fields(Limits))

Verb = Callable[[Mapping[str, Any]], Answer]


@dataclass
class _Client:
    connection: socket.socket
    since: float = field(default_factory=time.monotonic)
    received: bytes = b""


class ControlServer:
    """Listens on the control socket of one run. `serve` answers the requests that have come.

    Where it cannot listen, the run goes on all the same: it cannot be inspected, that is all.
    """

    def __init__(self, run_dir: Path) -> None:
        self._clients: list[_Client] = []  # connected, without a whole request yet
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(address(run_dir))
            self._socket.listen(MOST_CLIENTS)
        except OSError as error:  # a sandbox, or another process has the address
            print(
                f"polygen-stream inspect, limits and status will not reach this run: {error.strerror}", file=sys.stderr
            )

    def serve(self, ring: Ring, status: Callable[[], dict[str, Any]]) -> list[str]:
        """Answer the clients that have asked. Never blocks on a client.

        Args:
            ring: The run's ring. All that ask for it now get one copy.
            status: How the run stands, for those that ask.

        Returns:
            The changes that were made to the ring's limits, in words.

        Raises:
            LockTimeout: The ring's mutex could not be had. The clients' connections are closed.
        """
        changed: list[str] = []
        with ExitStack() as stack:
            asked = self._requests(stack)
            copy = cache(lambda: _copy(ring, stack))
            verbs: dict[str, Verb] = {
                "inspect": lambda request: copy(),
                "limits": lambda request: _limits(ring, request, changed),
                "status": lambda request: Answer(status()),
            }
            for connection, request in asked:
                _send(connection, _answer(request, verbs))
        return changed

    def close(self) -> None:
        """Stop listening, and close the connections of clients that have not asked yet."""
        self._socket.close()
        for client in self._clients:
            client.connection.close()

    def _requests(self, stack: ExitStack) -> list[tuple[socket.socket, bytes]]:
        """Connections with a whole request, which `stack` closes; the others wait, until their time is over."""
        self._accept()
        waiting, self._clients, asked = self._clients, [], []
        for client in waiting:
            try:
                piece = client.connection.recv(REQUEST_BYTES)
            except BlockingIOError:
                piece = None
            except OSError:
                piece = b""
            client.received += piece or b""
            if b"\n" in client.received or len(client.received) >= REQUEST_BYTES:
                asked.append((stack.enter_context(client.connection), client.received))
            elif piece == b"" or time.monotonic() - client.since > REQUEST_LIMIT_S:
                client.connection.close()  # it went away, or says nothing
            else:
                self._clients.append(client)
        return asked

    def _accept(self) -> None:
        """Connections of the run's own user and of root; others are told why not."""
        with suppress(OSError):  # no further client waits, or descriptors are short: the others ask again
            while len(self._clients) < MOST_CLIENTS:
                connection, _ = self._socket.accept()
                connection.setblocking(False)
                _, uid = peer(connection)
                if uid in (0, os.geteuid()):
                    self._clients.append(_Client(connection))
                    continue
                with connection:
                    _refuse(connection, f"this run belongs to uid {os.geteuid()}, not to uid {uid}")


def _answer(request: bytes, verbs: Mapping[str, Verb]) -> Answer:
    try:
        asked = json.loads(request.partition(b"\n")[0])
        verb = verbs[asked["verb"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer({"error": f"a request is a JSON object with a verb: {', '.join(verbs)}"})
    try:
        return verb(asked)
    except UserError as problem:
        return Answer({"error": str(problem)})


def _copy(ring: Ring, stack: ExitStack) -> Answer:
    """A snapshot of the ring's columns, made now under its mutex, and the ring for reading its images."""
    try:
        snapshot = snapshot_in_memory(ring)
        stack.callback(os.close, snapshot)
        images = os.open(f"/proc/self/fd/{ring.fd}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, images)
    except (UserError, OSError) as error:  # short of memory or descriptors: the run does not end for that
        return Answer({"error": f"the run cannot be looked at now: {error}"})
    return Answer({"ring": "snapshot and images"}, (snapshot, images))


def _limits(ring: Ring, request: Mapping[str, Any], changed: list[str]) -> Answer:
    changes = request.get("changes", {})
    known = isinstance(changes, dict) and changes.keys() <= {*LIMITS}
    if not known or not all(type(value) in (int, float) for value in changes.values()):
        raise UserError(f"a change of limits is a JSON object of numbers; its names are {', '.join(LIMITS)}")
    limits = ring.set_limits(**changes) if changes else ring.limits
    if changes:
        changed.append(", ".join(f"ring.{name} is now {getattr(limits, name):g}" for name in changes))
    return Answer({"limits": asdict(limits)})


def _refuse(connection: socket.socket, why: str) -> None:
    _send(connection, Answer({"error": why}))


def _send(connection: socket.socket, answer: Answer) -> None:
    with suppress(OSError):  # it went away
        if answer.descriptors:
            socket.send_fds(connection, [encode(answer.content)], list(answer.descriptors))
        else:
            connection.sendall(encode(answer.content))
