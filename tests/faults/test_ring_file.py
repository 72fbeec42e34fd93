"""Whole runs with ring.storage: killed, they render nothing twice; completed, they leave no file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from launched_runs import Launched
from resumable_run import RENDERED, STEPS
from run_results import RUN, assert_same, result

from polygen_stream.config import load_config
from polygen_stream.export.recorded_images import RecordedImages
from polygen_stream.launch.watch.inspect_client import open_inspected
from polygen_stream.launch.watch.status_query import status_of

START_S = 150.0  # imports of torch and open_clip on a machine that is busy
ROOM = ("ring.slots", "400")  # for all images of the run: what makes room for others cannot be kept


@pytest.fixture
def start(tmp_path):
    """start(name, *overrides) begins the deterministic run in tmp_path/name, or goes on with it."""
    started = []

    def start(name: str, *overrides: str) -> Launched:
        words = ("resume",) if (tmp_path / name).exists() else overrides
        started.append(Launched(tmp_path / f"attempt-{len(started)}", RUN, words, run_dir=tmp_path / name))
        return started[-1]

    yield start
    for run in started:
        run.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the run gives that nothing interrupts."""
    run = Launched(tmp_path_factory.mktemp("whole"), RUN, ROOM)
    try:
        assert run.wait(300) == 0, run.stderr
        return result(run.run_dir)
    finally:
        run.close()


def kill_all_at(run: Launched, step: int) -> None:
    """SIGKILL for every process of the run, as the machine does it that runs out of memory."""
    run.process("trainer")
    run.wait_until(lambda: run.steps() >= step, f"step {step}", START_S)
    for process in [run.process("supervisor"), *run.processes().values()]:
        process.send_signal(signal.SIGKILL)
    run.wait()


def rendered(run_dir: Path) -> Counter[str]:
    """How often each image was rendered and whole in the ring."""
    return Counter((run_dir / RENDERED).read_text().splitlines())


def rendered_twice(run_dir: Path) -> int:
    return sum(count - 1 for count in rendered(run_dir).values())


def run_generators(run: Launched) -> tuple[str, ...]:
    return load_config(run.run_dir / "config.toml").generators.names


def clean(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "polygen_stream", "clean", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(1200)
def test_a_killed_run_renders_nothing_twice_and_ends_with_the_same_bits(start, whole, tmp_path):
    disk = tmp_path / "disk"
    run = start("filed", *ROOM, "ring.storage", str(disk))
    kill_all_at(run, 3)  # before the first checkpoint
    [file] = disk.iterdir()
    before = sum(1 for _ in (run.run_dir / RENDERED).open())
    run = start("filed")
    kill_all_at(run, STEPS // 2)
    [kept] = re.findall(r"([\d,]+) images are in (.*)", run.stderr)
    assert int(kept[0].replace(",", "")) >= before > 0 and kept[1] == str(file)
    assert "damaged" not in run.stderr
    assert status_of(run.run_dir)["ring_file"] == str(file)
    looked_at = open_inspected(run.run_dir)
    assert looked_at.read(looked_at.groups[-1].positive_slots)

    listed = clean(disk, "--remove")
    assert "interrupted" in listed and str(run.run_dir) in listed and file.exists()

    run = start("filed")
    assert run.wait(300) == 0, run.stderr
    run.assert_nothing_left()
    assert_same(result(run.run_dir), whole)
    assert rendered_twice(run.run_dir) == 0
    assert list(disk.iterdir()) == []
    assert "no files of rings" in clean(disk)
    assert status_of(run.run_dir)["ring_file"] is None


@pytest.mark.timeout(900)
def test_without_a_file_recorded_images_are_not_rendered_again(start, whole, tmp_path):
    shards = tmp_path / "shards"
    run = start("recorded", *ROOM, "train.checkpoint_images", "false", "launch.record_shards", str(shards))
    kill_all_at(run, STEPS // 2)
    recorded = RecordedImages(shards, run_generators(run), (32, 32, 3))
    tasks = set(sorted(recorded._places)[:-1])  # of the last one a part may be missing
    assert len(tasks) > 10
    run = start("recorded")
    assert run.wait(300) == 0, run.stderr
    again = {int(line.split()[0]) for line, n in rendered(run.run_dir).items() if n > 1}
    assert not again & tasks
    assert_same(result(run.run_dir), whole)


@pytest.mark.timeout(900)
def test_the_file_stays_in_use_until_the_run_ends_and_as_long_as_it_is_asked_for(start, tmp_path):
    disk = tmp_path / "disk"
    run = start("kept", "ring.storage", str(disk), "ring.keep_file", "true")
    run.process("trainer")
    run.wait_until(lambda: run.steps() >= 2, "step 2", START_S)
    listed = clean(disk, "--remove", "--interrupted")
    assert "in use" in listed and len(list(disk.iterdir())) == 1
    assert run.wait(300) == 0, run.stderr
    assert "completed" in clean(disk)
    assert "removed" in clean(disk, "--remove")
    assert list(disk.iterdir()) == []


@pytest.mark.timeout(900)
def test_without_its_file_a_run_goes_on_and_renders_again(start, tmp_path):
    disk = tmp_path / "disk"
    run = start("lost", "ring.storage", str(disk))
    kill_all_at(run, 12)
    assert "interrupted" in clean(disk)
    assert "removed" in clean(disk, "--remove", "--interrupted")
    run = start("lost")
    assert run.wait(300) == 0, run.stderr
    assert "0 images are in" in run.stderr
    assert rendered_twice(run.run_dir) > 20  # what the file is for
