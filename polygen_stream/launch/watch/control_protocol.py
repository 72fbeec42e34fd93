"""The control socket of a run: how a command asks the supervisor something.

A client connects, sends one line and reads one line, both JSON objects; the supervisor looks about once a second and
closes the connection after its answer.

    {"verb": "status"}                                    how the run stands: see run_status.to_dict
    {"verb": "limits", "changes": {"max_age": 100}}       {"limits": {...}}: all that hold now
    {"verb": "inspect"}                                   {"ring": "..."} and two descriptors: a snapshot of the ring's
                                                          columns, and the ring itself, opened for reading only

{"error": "..."} is the answer to a request that is refused.

The socket's address is abstract: it has no file, no limit on the length of the run folder's path, and the kernel
removes it at any kind of death. It has no permissions either; both sides check the uid that the kernel vouches for.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import PolygenError, UserError

ANSWER_LIMIT_S = 30.0  # the supervisor looks once a second; it may be waiting for a stuck mutex
REQUEST_BYTES = 4096
DESCRIPTORS = 2  # most that an answer carries


@dataclass(frozen=True)
class Answer:
    """What the supervisor said.

    Attributes:
        content: A JSON object.
        descriptors: File descriptors that came with it, for the receiver to close.
    """

    content: dict[str, Any]
    descriptors: tuple[int, ...] = ()


class RunEnding(PolygenError):
    """The run ended before its supervisor answered."""


def address(run_dir: Path) -> str:
    """Return where the supervisor of a run folder listens; the same by whatever path the folder is called."""
    folder = run_dir.stat()
    return f"\0polygen-stream/{folder.st_dev:x}-{folder.st_ino:x}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process at the other end, from the kernel."""
    pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a request or an answer as it is sent."""
    return json.dumps(message).encode() + b"\n"


def ask(run_dir: Path, request: Mapping[str, Any], answer_limit_s: float = ANSWER_LIMIT_S) -> Answer | None:
    """Ask the supervisor of a run; None if no run is going on in this folder.

    Args:
        run_dir: The run folder.
        request: A JSON object with a verb.
        answer_limit_s: How long to wait for the answer.

    Raises:
        UserError: The request is refused.
        RunEnding: The run ended before it answered.
        PolygenError: The supervisor does not answer in time, or another user's process has its address.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(answer_limit_s)
        try:
            connection.connect(address(run_dir))
        except ConnectionRefusedError:
            return None
        except BlockingIOError:
            raise PolygenError(
                f"too many commands wait for the supervisor of {run_dir}, or it is stopped: try again later"
            ) from None
        pid = _check_owner(connection, run_dir)
        try:
            with suppress(BrokenPipeError):  # refused already: the answer is there
                connection.sendall(encode(request))
            answer = _receive(connection)
        except TimeoutError:
            raise PolygenError(
                f"the supervisor (pid {pid}) of {run_dir} gave no answer in {answer_limit_s:g} s; "
                "is it stopped or in a debugger?"
            ) from None
    if answer is None:
        raise RunEnding(f"the run in {run_dir} is just ending; ask again in a moment")
    if "error" in answer.content:
        raise UserError(answer.content["error"])
    return answer


def _check_owner(connection: socket.socket, run_dir: Path) -> int:
    """Pid of the supervisor. Any user may listen at an abstract address."""
    pid, uid = peer(connection)
    owner = run_dir.stat().st_uid
    if uid not in (owner, os.geteuid(), 0):
        raise PolygenError(f"{run_dir} belongs to uid {owner}, but uid {uid} (pid {pid}) answers for it")
    return pid


def _receive(connection: socket.socket) -> Answer | None:
    """One line; None if the other side closed the connection before its end."""
    text, descriptors = b"", []
    try:
        while not text.endswith(b"\n"):
            piece, more, _, _ = socket.recv_fds(connection, 65536, DESCRIPTORS)
            descriptors += more
            if not piece:
                raise ConnectionResetError
            text += piece
    except (ConnectionResetError, BrokenPipeError):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return Answer(json.loads(text), tuple(descriptors))
