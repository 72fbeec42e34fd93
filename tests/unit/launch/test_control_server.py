"""The supervisor's side of the control socket, in this process: nothing a client does or meets may end the run."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time

import pytest
from small_rings import open_plain, render

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.launch.watch import control_server
from polygen_stream.launch.watch.control_protocol import RunEnding, address, ask, encode
from polygen_stream.launch.watch.control_server import MOST_CLIENTS, ControlServer
from polygen_stream.ring.snapshot_file import SnapshotFile


def standing() -> dict:
    return {"state": "running"}


@pytest.fixture
def server(tmp_path):
    server = ControlServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def connect(tmp_path):
    """A client that has sent something. connect(bytes) -> socket."""
    connections = []

    def client(message: bytes) -> socket.socket:
        connections.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connections[-1].settimeout(10)
        connections[-1].connect(address(tmp_path))
        connections[-1].sendall(message)
        return connections[-1]

    yield client
    for connection in connections:
        connection.close()


INSPECT = encode({"verb": "inspect"})


def test_the_copy_is_of_the_moment_of_the_answer_and_one_for_all_that_ask(new_ring, server, connect):
    ring, clients = new_ring(), [connect(INSPECT) for _ in range(2)]
    open_plain(ring, 5)
    server.serve(ring, standing)
    render(ring)
    snapshots = set()
    for client in clients:
        text, (snapshot, mapped), _, _ = socket.recv_fds(client, 4096, 2)
        assert json.loads(text) == {"ring": "snapshot and images"}
        state = SnapshotFile(f"/proc/self/fd/{snapshot}").state
        assert state.columns.group_task[0] == 5 and state.columns.group_pending[0] == 2
        assert os.fstat(mapped).st_ino == os.fstat(ring.fd).st_ino
        snapshots.add(os.fstat(snapshot).st_ino)
        os.close(snapshot)
        os.close(mapped)
        assert client.recv(1) == b"", "the server keeps no connection open"
    assert len(snapshots) == 1


def test_a_supervisor_without_descriptors_says_so_and_goes_on(new_ring, server, connect):
    ring, client = new_ring(), connect(INSPECT)
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # room for the connection, not for a copy
    try:
        server.serve(ring, standing)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    text, descriptors, _, _ = socket.recv_fds(client, 4096, 2)
    assert not descriptors
    error = json.loads(text)["error"]
    assert error.startswith("the run cannot be looked at now: ") and "Too many open files" in error


def test_status_is_asked_for_only_when_a_client_asks(new_ring, server, connect):
    ring, asked = new_ring(), []

    def status() -> dict:
        asked.append(1)
        return {"state": "running"}

    server.serve(ring, status)
    assert not asked
    client = connect(encode({"verb": "status"}))
    server.serve(ring, status)
    assert json.loads(client.recv(4096)) == {"state": "running"}


@pytest.mark.parametrize(
    "message", [b"no json\n", b"\xff\xfe\n", b"[1]\n", b'{"verb": 1}\n', b'{"verb": []}\n', b"{}\n", b"x" * 4096]
)
def test_what_is_no_request_is_refused(new_ring, server, connect, message):
    client = connect(message)
    server.serve(new_ring(), standing)
    error = json.loads(client.recv(4096))["error"]
    assert error == "a request is a JSON object with a verb: inspect, limits, status"


def test_a_request_may_come_in_pieces(new_ring, server, connect):
    ring, client = new_ring(), connect(b'{"verb": ')
    server.serve(ring, standing)
    client.sendall(b'"status"}\n')
    server.serve(ring, standing)
    assert json.loads(client.recv(4096)) == {"state": "running"}


def test_clients_that_say_nothing_are_sent_away_and_the_others_come_in(new_ring, server, connect, monkeypatch):
    ring, silent = new_ring(), [connect(b"") for _ in range(MOST_CLIENTS)]
    began = time.monotonic()
    server.serve(ring, standing)
    asking = connect(encode({"verb": "status"}))
    server.serve(ring, standing)
    assert time.monotonic() - began < 1, "it waits for none of them"
    monkeypatch.setattr(control_server, "REQUEST_LIMIT_S", 0.0)
    server.serve(ring, standing)
    assert [client.recv(1) for client in silent] == [b""] * MOST_CLIENTS
    server.serve(ring, standing)
    assert json.loads(asking.recv(4096)) == {"state": "running"}


def test_a_client_that_went_away_does_not_matter(new_ring, server, connect):
    ring = new_ring()
    connect(INSPECT).close()
    connect(b"").close()
    client = connect(encode({"verb": "status"}))
    server.serve(ring, standing)
    assert json.loads(client.recv(4096)) == {"state": "running"}


def test_a_taken_address_does_not_keep_a_run_from_starting(new_ring, server, tmp_path, capsys):
    second = ControlServer(tmp_path)
    assert "inspect, limits and status will not reach this run: Address already in use" in capsys.readouterr().err
    second.serve(new_ring(), standing)
    second.close()


def test_the_address_does_not_depend_on_how_the_folder_is_called(tmp_path):
    folder = tmp_path / ("x" * 200) / "run"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    assert address(tmp_path / "link") == address(folder)
    assert len(address(folder)) < 108


def test_a_folder_in_which_no_run_is_going_on(tmp_path):
    assert ask(tmp_path, {"verb": "status"}) is None


def test_a_supervisor_that_does_not_answer_is_named(server, tmp_path):
    with pytest.raises(PolygenError, match=r"the supervisor \(pid \d+\) of .* gave no answer in 0\.2 s"):
        ask(tmp_path, {"verb": "status"}, answer_limit_s=0.2)


def test_a_run_that_ends_before_it_answers(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address(tmp_path))
        listening.listen()
        closing = threading.Thread(target=lambda: listening.accept()[0].close())
        closing.start()
        with pytest.raises(RunEnding, match="is just ending"):
            ask(tmp_path, {"verb": "status"})
        closing.join()


def test_a_refusal_reaches_the_client_as_its_error(new_ring, server, tmp_path):
    ring, ended = new_ring(), threading.Event()

    def serve() -> None:
        while not ended.is_set():
            server.serve(ring, standing)
            time.sleep(0.01)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with pytest.raises(UserError, match="a request is a JSON object with a verb"):
            ask(tmp_path, {"verb": "dance"})
    finally:
        ended.set()
        serving.join()
