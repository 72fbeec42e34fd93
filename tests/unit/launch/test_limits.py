"""Changing the limits of a running ring over its socket, both sides in this process."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.launch.watch.control_protocol import address, encode
from polygen_stream.launch.watch.control_server import ControlServer
from polygen_stream.launch.watch.limits import change_limits


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "config.toml").write_text("")
    return tmp_path


@pytest.fixture
def server(run_dir):
    server = ControlServer(run_dir)
    yield server
    server.close()


@pytest.fixture
def supervised(new_ring, server):
    """A ring whose limits a thread serves as a supervisor does; and what was said for the log."""
    ring, said, ended = new_ring(), [], threading.Event()

    def serve() -> None:
        while not ended.is_set():
            said.extend(server.serve(ring, dict))
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    yield ring, said
    ended.set()
    thread.join()


def test_limits_change_while_the_ring_runs(supervised, run_dir):
    ring, said = supervised
    before = ring.limits
    after = change_limits(run_dir, {"max_times_sampled": 7, "max_age": 100})
    assert (after.max_times_sampled, after.max_age, after.min_fill) == (7, 100, before.min_fill)
    assert ring.limits == after
    time.sleep(0.05)
    assert said == ["ring.max_times_sampled is now 7, ring.max_age is now 100"]


def test_without_changes_it_says_what_holds(supervised, run_dir):
    ring, _ = supervised
    assert change_limits(run_dir, {}) == ring.limits


def test_numbers_that_would_stop_the_run_are_refused_and_change_nothing(supervised, run_dir):
    ring, _ = supervised
    before = ring.limits
    with pytest.raises(UserError, match="narrower than"):
        change_limits(run_dir, {"max_times_sampled": 7, "samples_per_insert": 3, "error_buffer": 1})
    assert ring.limits == before


@pytest.mark.parametrize("changes", [[1], "max_age", {"slots": 3}, {"max_age": "9"}, {"max_age": True}])
def test_what_is_no_change_of_limits_is_refused(supervised, run_dir, changes):
    ring, _ = supervised
    before = ring.limits
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(address(run_dir))
        connection.sendall(encode({"verb": "limits", "changes": changes}))
        answer = json.loads(connection.recv(4096))
    assert answer["error"].startswith(
        "a change of limits is a JSON object of numbers; its names are samples_per_insert"
    )
    assert ring.limits == before


def test_who_connects_and_says_nothing_holds_nobody_up(supervised, run_dir):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address(run_dir))
        assert change_limits(run_dir, {"max_age": 5}, answer_limit_s=5).max_age == 5


def test_a_folder_in_which_nobody_runs(run_dir):
    with pytest.raises(UserError, match="no run is going on"):
        change_limits(run_dir, {"max_age": 5})


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        change_limits(tmp_path, {"max_age": 5})


def test_a_supervisor_that_does_not_answer_is_named(server, run_dir):
    with pytest.raises(PolygenError, match=r"the supervisor \(pid \d+\) of .* gave no answer in 0\.2 s"):
        change_limits(run_dir, {"max_age": 5}, answer_limit_s=0.2)
