"""A generator on a machine of a Ray cluster, and what becomes of a run when that machine is lost."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import remote_run
from launched_runs import Launched

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.launch.watch.inspect_client import open_inspected
from polygen_stream.ring.inspection import inspect_state

RUN, THERE = Path(remote_run.__file__), "micro/sana"

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def cluster():
    """A head that renders nothing; `add()` gives it a machine that does."""
    utils = pytest.importorskip("ray.cluster_utils")
    found = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add = lambda: found.add_node(num_cpus=2, resources={"render": 2})
    yield found
    found.shutdown()


@pytest.fixture
def start(tmp_path, cluster):
    started = []

    def start(*words: str) -> Launched:
        started.append(Launched(tmp_path, [sys.executable, str(RUN), cluster.address], words))
        return started[-1]

    yield start
    for run in started:
        run.close()


def rendered(run: Launched) -> int:
    """Pictures of the remote generator in the ring so far."""
    if not (run.run_dir / "metrics.jsonl").exists():
        return 0
    return inspect_state(open_inspected(run.run_dir).state, running=True).stats.images_committed[THERE]


def doing(run: Launched) -> str:
    """What its bridge says."""
    owners = inspect_state(open_inspected(run.run_dir).state, running=True).owners
    return next(owner.doing for owner in reversed(owners) if THERE.replace("/", "-") in owner.name)


def test_a_lost_machine_costs_no_picture_once_another_one_is_there(cluster, start):
    machine = cluster.add()
    run = start()
    run.wait_until(lambda: rendered(run) > 40, "pictures from the other machine", 120)
    cluster.remove_node(machine, allow_graceful=False)
    run.wait_until(lambda: doing(run).startswith("0 of 2 actors"), "the loss to be noticed", 120)
    before = rendered(run)
    cluster.add()
    run.wait_until(lambda: rendered(run) > before + 40, "pictures from the new machine", 120)
    stats = inspect_state(open_inspected(run.run_dir).state, running=True).stats
    assert sum(stats.failed.values()) == 0 and stats.generators_down == ()
    run.process("supervisor").send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert not [event for event in read_jsonl(run.run_dir / "events.jsonl") if event["event"] == "degraded"]
    run.assert_nothing_left()


def test_without_another_machine_the_run_goes_on_without_the_generator(cluster, start):
    machine = cluster.add()
    run = start("--generators.remote_timeout_s", "6", "--launch.restarts", "1")
    run.wait_until(lambda: rendered(run) > 40, "pictures from the other machine", 120)
    cluster.remove_node(machine, allow_graceful=False)
    run.assert_goes_on_without(f"renderer {THERE}", killed_by="exited with code 1: error: no Ray actor of micro/sana")


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    run = Launched(tmp_path, [sys.executable, str(RUN), "127.0.0.1:1"], ("--launch.restarts", "0"))
    try:
        run.wait_until(lambda: (run.run_dir / "events.jsonl").exists(), "the bridge to give up", 120)
        [event] = [event for event in read_jsonl(run.run_dir / "events.jsonl") if event["event"] == "degraded"]
        assert "generators.remote = '127.0.0.1:1': no Ray cluster there" in event["reason"]
    finally:
        run.close()
