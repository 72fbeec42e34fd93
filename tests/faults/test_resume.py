"""Interrupted and resumed, a deterministic run ends with the same bits as one that nobody interrupted."""

from __future__ import annotations

import random
import re
import resource
import signal
import time

import pytest
from launched_runs import Launched
from resumable_run import CHECKPOINT_EVERY, STEPS
from run_results import RUN, assert_same, result

from polygen_stream.base.files import PARTIAL
from polygen_stream.checkpoints import list_checkpoints

START_S = 150.0  # imports of torch and open_clip on a machine that is busy


AUTHOR = ("method", "author", "train.images_per_text", "1")  # half of the images of a text in a draw


@pytest.fixture(scope="module", params=[(), pytest.param(AUTHOR, marks=pytest.mark.slow)], ids=["digest", "author"])
def settings(request) -> tuple[str, ...]:
    """The method, and how many images of a text a draw takes."""
    return request.param


@pytest.fixture
def start(tmp_path, settings):
    """start(*overrides) begins the run, or goes on with it: each process tree is a Launched."""
    started = []

    def start(*overrides: str) -> Launched:
        words = ("resume",) if (tmp_path / "run").exists() else (*settings, *overrides)
        attempt = tmp_path / f"attempt-{len(started)}"
        attempt.mkdir()
        started.append(Launched(attempt, RUN, words, run_dir=tmp_path / "run"))
        return started[-1]

    yield start
    for run in started:
        run.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory, settings):
    """What the run gives that nobody interrupts."""
    run = Launched(tmp_path_factory.mktemp("whole"), RUN, settings)
    try:
        assert run.wait(300) == 0, run.stderr
        found = result(run.run_dir)
    finally:
        run.close()
    assert found["step"] == STEPS
    kinds = {"plain", "pair", "negative"} if settings else {"plain", "pair"}
    assert {kind for draw in found["draws"] for kind in ("plain", "negative", "pair") if draw.get(kind)} == kinds
    assert all(("turns" in draw) == bool(settings) for draw in found["draws"])
    return found


def kill(run: Launched) -> None:
    run.process("supervisor").send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


def stop(number: int):
    def send(run: Launched) -> None:
        run.process("supervisor").send_signal(number)
        assert run.wait() == 128 + number
        assert f"to go on: polygen-stream run --resume {run.run_dir}" in run.stderr

    return send


def fill_the_disk(run: Launched) -> None:
    """No file of the trainer may become larger than 100 kB, as if the disk were full from there on."""
    resource.prlimit(run.process("trainer").pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    assert run.wait() == 2
    unwritten = re.search(r"error: cannot write the checkpoint of step (\d+)", run.stderr)
    assert unwritten and "free some space" in run.stderr
    step = int(unwritten[1])
    assert step - CHECKPOINT_EVERY <= list_checkpoints(run.run_dir)[-1][0] < step


def kill_while_it_writes(run: Launched) -> None:
    def is_writing() -> bool:
        return any((run.run_dir / "checkpoints").glob(f"{PARTIAL}*/*"))

    deadline = time.monotonic() + 60
    while not is_writing():
        assert time.monotonic() < deadline and run.popen.poll() is None, run.stderr
    run.process("supervisor").send_signal(signal.SIGKILL)
    run.wait()


INTERRUPTIONS = {
    "SIGKILL": kill,
    "SIGTERM": stop(signal.SIGTERM),
    "Ctrl-C": stop(signal.SIGINT),
    "full disk": fill_the_disk,
    "killed while it writes a checkpoint": kill_while_it_writes,
}


@pytest.mark.timeout(1500)
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(start, expected):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(2, STEPS - 7), len(INTERRUPTIONS)))
    ways = chance.sample(sorted(INTERRUPTIONS), len(INTERRUPTIONS))
    print(f"seed {seed}: {list(zip(moments, ways, strict=True))}")
    for moment, way in zip(moments, ways, strict=True):
        run = start()
        run.process("trainer")  # until then the steps in the folder may be those of the attempt before
        run.wait_until(lambda: run.steps() >= moment or run.popen.poll() is not None, "it", START_S)  # noqa: B023
        assert run.popen.poll() is None, run.stderr
        INTERRUPTIONS[way](run)
        run.assert_nothing_left(limit_s=5)
    run = start()
    assert run.wait(300) == 0, run.stderr
    run.assert_nothing_left()
    assert_same(result(run.run_dir), expected)
    summary = run.summary
    assert len(summary["resumes"]) == len(INTERRUPTIONS)
    assert summary["unusable_checkpoints"] == [] and summary["restarts"] == []


@pytest.mark.timeout(900)
def test_processes_that_die_and_come_back_change_no_bit(start, expected):
    """The trainer goes on from its last checkpoint with the ring of that time; producers go on where they were."""
    run = start("launch.restarts", "5")
    victims = ["captioner", "trainer", "renderer-micro-sana", "trainer"]
    for moment, victim in zip((8, 14, 22, 29), victims, strict=True):
        run.wait_until(lambda: run.steps() >= moment, f"step {moment}", START_S)  # noqa: B023
        run.process(victim).send_signal(signal.SIGKILL)
    assert run.wait(300) == 0, run.stderr
    run.assert_nothing_left()
    assert_same(result(run.run_dir), expected)
    assert sorted(restart["process"] for restart in run.summary["restarts"]) == sorted(victims)
    assert run.summary["resumes"] == []
