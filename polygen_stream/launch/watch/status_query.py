"""`polygen-stream status`: a running run's snapshot from its supervisor, that of one that is over from its files.

To connect is to ask: the supervisor answers within about a second with the newest snapshot of its live view as one
JSON object, and closes.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.launch.watch.control_socket import (
    ANSWER_LIMIT_S,
    accept,
    address,
    connect_to_run,
    listen,
    no_answer,
)
from polygen_stream.launch.watch.inspect_client import newest_snapshot
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.run_status import RunStatus, of_the_past, to_dict
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.ring.state import empty_state
from polygen_stream.ring.stats import ring_stats

WAITING_ASKERS = 16


class StatusServer:
    """Listens for those who ask how one run stands; `serve` answers those that have come."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        self._config, self._run_dir = config, run_dir
        self._socket = listen(status_address(run_dir), WAITING_ASKERS, "status")

    def serve(self, shot: RunStatus) -> None:
        askers = accept(self._socket, WAITING_ASKERS, lambda refusal: json.dumps({"error": refusal}).encode())
        if not askers:
            return
        answer = json.dumps(to_dict(self._config, self._run_dir, "running", shot)).encode()
        for connection in askers:
            with connection, suppress(OSError):  # it went away
                connection.setblocking(False)
                connection.sendall(answer)

    def close(self) -> None:
        self._socket.close()


def status_address(run_dir: Path) -> str:
    return f"{address(run_dir)}/status"


def status_of(run_dir: Path, answer_limit_s: float = ANSWER_LIMIT_S) -> dict:
    """How the run of a folder stands, see snapshot.to_dict; of one that is over, how it stood at the last.

    Raises:
        UserError: no run folder.
        PolygenError: its supervisor does not answer.
    """
    RunFolder.open(run_dir)
    return _ask(run_dir, answer_limit_s) or _from_files(run_dir)


def _ask(run_dir: Path, answer_limit_s: float) -> dict | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(answer_limit_s)
        pid = connect_to_run(connection, status_address(run_dir), run_dir)
        if pid is None:
            return None
        try:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            return None
        except TimeoutError:
            raise no_answer(pid, run_dir, answer_limit_s) from None
    if not answer:  # it has just ended
        return None
    found = json.loads(answer)
    if "error" in found:
        raise UserError(found["error"])
    return found


def _from_files(run_dir: Path) -> dict:
    run = RunFolder(run_dir)
    config, tail = load_config(run.config), MetricsTail(run.metrics)
    tail.read()
    snapshot = newest_snapshot(run_dir)
    state = SnapshotFile(snapshot).state if snapshot else empty_state(ring_spec(config))
    return to_dict(config, run_dir, _how_it_ended(run_dir), of_the_past(ring_stats(state), tail))


def _how_it_ended(run_dir: Path) -> str:
    """The status of its summary, or "killed" when the last supervisor left none."""
    run = RunFolder(run_dir)
    summary, begun = run.summary, run.provenance
    try:
        # An earlier attempt of a run that was taken up again left a summary too, before that.
        if summary.stat().st_mtime_ns >= begun.stat().st_mtime_ns:
            return read_json(summary, required=("status",))["status"]
    except FileNotFoundError:
        pass
    return "killed"
