"""Two nodes on one machine, each with a supervisor, ring, producers and a rank of its own, train one model."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path

import node_run
import pytest
import torch
from launched_runs import Launched
from safetensors.torch import load_file

from polygen_stream.base.jsonl import read_jsonl

NODE = Path(node_run.__file__)
QUICK, NEVER = 0.005, 1000.0
START_S = 250.0  # two imports of torch and all that comes with it

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def start_nodes(tmp_path):
    """start_nodes(*overrides, image_s=[...]) -> the nodes, started; image_s of each says how fast it renders."""
    started: list[Launched] = []

    def start(*words: str, image_s: tuple[float, ...] = (QUICK, QUICK)) -> list[Launched]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            rendezvous = f"127.0.0.1:{probe.getsockname()[1]}"
        for node, seconds in enumerate(image_s):
            folder = tmp_path / f"node{node}"
            folder.mkdir()
            latency = json.dumps(dict.fromkeys(("micro/sd15", "micro/sana"), seconds))
            place = ("--nodes", str(len(image_s)), "--node", str(node), "--rendezvous", rendezvous)
            run = Launched(folder, [sys.executable, str(NODE), latency], (*place, *words), tmp_path / "run")
            run.run_dir = tmp_path / "run" / f"node-{node}"
            started.append(run)
        return started

    yield start
    for run in started:
        run.close()


def ended(nodes: list[Launched]) -> list[int]:
    """Exit codes of all, watched until the last one is gone."""

    def over() -> bool:
        for run in nodes:
            run.processes()
        return all(run.popen.poll() is not None for run in nodes)

    nodes[0].wait_until(over, f"both nodes to end\n{nodes[1].stderr}", START_S)
    return [run.popen.returncode for run in nodes]


def weights(run: Launched) -> dict[str, torch.Tensor]:
    return load_file(run.run_dir / "checkpoints" / "step_000012" / "model.safetensors")


def assert_one_model(nodes: list[Launched]) -> None:
    first, second = (list(read_jsonl(run.run_dir / "metrics.jsonl")) for run in nodes)
    assert [line["step"] for line in first] == [line["step"] for line in second] == list(range(12))
    assert [line["loss"] for line in first] == pytest.approx([line["loss"] for line in second], rel=1e-5)
    assert [line["texts"] for line in first] == [16] * 12  # of both nodes together
    ours, theirs = map(weights, nodes)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_two_nodes_train_one_model_on_tasks_of_their_own(start_nodes):
    nodes = start_nodes()
    assert ended(nodes) == [0, 0], [run.stderr for run in nodes]
    assert_one_model(nodes)
    for node, run in enumerate(nodes):
        tasks = [line["task"]["task_id"] for line in read_jsonl(run.run_dir / "journal.jsonl") if "task" in line]
        assert tasks == list(range(node, 2 * len(tasks), 2)) and len(tasks) >= 48
        drawn = {task for line in read_jsonl(run.run_dir / "draw_log.jsonl") for task in line["plain"] + line["pair"]}
        assert drawn <= set(tasks)
        run.assert_nothing_left()


def test_a_starved_node_is_named_by_the_other(start_nodes):
    nodes = start_nodes("--ring.draw_timeout_s", "8", "--launch.restarts", "0", image_s=(QUICK, NEVER))
    assert ended(nodes) == [1, 1]
    assert "trainer rank 1 exited with code 1" in nodes[1].stderr and "renderer-micro-sd15" in nodes[1].stderr
    assert "step 0: rank 1 (node 1) has no batch: see the error in its log" in nodes[0].stderr
    for run in nodes:
        run.assert_nothing_left()


def test_a_killed_rank_sends_both_nodes_back_to_the_last_common_checkpoint(start_nodes):
    nodes = start_nodes()
    nodes[1].wait_until(lambda: nodes[1].steps() > 5, "six steps", START_S)
    nodes[1].process("trainer-1").send_signal(signal.SIGKILL)
    assert ended(nodes) == [0, 0], [run.stderr for run in nodes]
    assert_one_model(nodes)
    reasons = []
    for run in nodes:
        [again] = [event for event in read_jsonl(run.run_dir / "events.jsonl") if event["event"] == "restart"]
        assert again["process"] == "trainer"
        reasons.append(again["reason"])
        run.assert_nothing_left()
    assert "another rank is gone" in reasons[0]
    assert "trainer rank 1 died with signal SIGKILL" in reasons[1]
