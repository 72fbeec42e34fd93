"""Changing the limits of a running ring from another terminal: the supervisor's side and the asker's.

Through a socket (contact.py) and for the run's own user alone; one JSON object
goes in, one comes out.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch.watch.control_socket import (
    ANSWER_LIMIT_S,
    accept,
    address,
    connect_to_run,
    listen,
    no_answer,
)
from polygen_stream.ring import Limits, Ring

MESSAGE_LIMIT_S = 0.5  # between the connection and its message
MESSAGE_BYTES = 4096
NAMES = tuple(field.name for field in fields(Limits))


class LimitsServer:
    """Listens for changes to one run's limits; `serve` makes those that have come."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = listen(limits_address(run_dir), 1, "limits")

    def serve(self, ring: Ring) -> str | None:
        """Answer who asks, if anybody does; the change that was made, for the log. Raises what the mutex raises."""
        askers = accept(self._socket, 1, lambda refusal: json.dumps({"error": refusal}).encode())
        if not askers:
            return None
        [connection] = askers
        with connection, suppress(OSError):  # it went away, or never says anything
            connection.settimeout(MESSAGE_LIMIT_S)
            try:
                changes = _changes(connection.recv(MESSAGE_BYTES))
                limits = ring.set_limits(**changes) if changes else ring.limits
            except UserError as problem:
                _send(connection, {"error": str(problem)})
                return None
            _send(connection, {"limits": asdict(limits)})
            return ", ".join(f"ring.{name} is now {getattr(limits, name):g}" for name in changes) or None
        return None

    def close(self) -> None:
        self._socket.close()


def limits_address(run_dir: Path) -> str:
    return f"{address(run_dir)}/limits"


def change_limits(run_dir: Path, changes: dict[str, float], answer_limit_s: float = ANSWER_LIMIT_S) -> Limits:
    """Have the supervisor of a running run change these limits, all or none; what holds now.

    Raises:
        UserError: nobody runs in this folder, or the new numbers would stop producers and trainer for ever.
        PolygenError: the supervisor does not answer.
    """
    RunFolder.open(run_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(answer_limit_s)
        pid = connect_to_run(connection, limits_address(run_dir), run_dir)
        if pid is None:
            raise UserError(f"no run is going on in {run_dir}; its limits are those of its config.toml")
        _send(connection, changes)
        try:
            answer = json.loads(connection.recv(MESSAGE_BYTES) or "{}")
        except TimeoutError:
            raise no_answer(pid, run_dir, answer_limit_s) from None
    if "error" in answer:
        raise UserError(answer["error"])
    if "limits" not in answer:
        raise PolygenError(f"the run in {run_dir} is just ending; nothing was changed")
    return Limits(**answer["limits"])


def _changes(message: bytes) -> dict[str, float]:
    try:
        changes = json.loads(message)
        known = isinstance(changes, dict) and changes.keys() <= set(NAMES)
        numbers = known and all(type(value) in (int, float) for value in changes.values())
    except ValueError:
        numbers = False
    if not numbers:
        raise UserError(f"a change of limits is a JSON object of numbers; its names are {', '.join(NAMES)}")
    return changes


def _send(connection: socket.socket, message: dict[str, object]) -> None:
    connection.sendall(json.dumps(message).encode())
