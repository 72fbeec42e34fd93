"""The supervisor's side of inspect, in this process: nothing an inspector meets may end the run."""

from __future__ import annotations

import os
import resource
import socket

import pytest
from small_rings import open_plain, render

from polygen_stream.launch.watch.control_socket import address
from polygen_stream.launch.watch.inspect_server import InspectServer
from polygen_stream.ring.snapshot_file import SnapshotFile


@pytest.fixture
def server(tmp_path):
    server = InspectServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def inspector(server, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(address(tmp_path))
        yield connection


def test_the_copy_is_of_the_moment_of_the_answer(new_ring, server, inspector):
    ring = new_ring()
    open_plain(ring, 5)
    server.serve(ring)
    render(ring)
    _, (snapshot, mapped), _, _ = socket.recv_fds(inspector, 4096, 2)
    state = SnapshotFile(f"/proc/self/fd/{snapshot}").state
    assert state.columns.group_task[0] == 5 and state.columns.group_pending[0] == 2
    assert os.fstat(mapped).st_ino == os.fstat(ring.fd).st_ino
    os.close(snapshot)
    os.close(mapped)


def test_a_supervisor_without_descriptors_says_so_and_goes_on(new_ring, server, inspector):
    ring = new_ring()
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # room for the connection, not for a copy
    try:
        server.serve(ring)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    text, descriptors, _, _ = socket.recv_fds(inspector, 4096, 2)
    assert not descriptors
    assert text.decode().startswith("the run cannot be looked at now: ") and "Too many open files" in text.decode()


def test_a_taken_address_does_not_keep_a_run_from_starting(new_ring, server, tmp_path, capsys):
    second = InspectServer(tmp_path)
    assert "will not reach this run: Address already in use" in capsys.readouterr().err
    second.serve(new_ring())
    second.close()


def test_the_address_does_not_depend_on_how_the_folder_is_called(tmp_path):
    folder = tmp_path / ("x" * 200) / "run"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    assert address(tmp_path / "link") == address(folder)
    assert len(address(folder)) < 108
