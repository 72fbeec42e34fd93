"""Runs on a file system of their own that fills up while they train."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from launched_runs import TOY, Launched, resumed_toy

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.checkpoints import list_checkpoints

ENDLESS = ("--train.steps", "100000", "--captions.target", "0", "--train.checkpoint_every", "20")
ROOM = "300m"  # more than a start asks for


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},nr_inodes=2000", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Callable[[], object]:
    """Fills it up; what is returned frees it again."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filling.unlink


def use_up_files(disk: Path) -> Callable[[], object]:
    """Its bytes are free, but no further file can be made."""
    made = []
    with suppress(OSError):
        while True:
            made.append(disk / f"file-{len(made)}")
            made[-1].touch()
    return lambda: [file.unlink(missing_ok=True) for file in made]


@pytest.mark.parametrize("spoil", [fill, use_up_files])
def test_a_run_that_can_write_no_more_names_the_cause_and_goes_on_later(disk, tmp_path, spoil):
    run = Launched(tmp_path / "a", [sys.executable, str(TOY), "supervise"], ENDLESS, run_dir=disk / "run")
    run.wait_until(lambda: run.steps() > 30, "thirty steps")
    mend = spoil(disk)
    assert run.wait() != 0
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert errors and all("Traceback" not in line for line in run.stderr.splitlines())
    assert any("No space left on device" in line and str(disk) in line for line in errors), run.stderr
    run.close()
    mend()

    [*_, (newest, _)] = list_checkpoints(run.run_dir)
    assert newest >= 20
    again = resumed_toy(tmp_path / "b", run)
    again.wait_until(lambda: again.steps() > newest + 20, "twenty steps after the checkpoint")
    again.process("supervisor").terminate()
    assert again.wait() == 128 + 15
    again.assert_nothing_left()
    steps = [line["step"] for line in read_jsonl(run.run_dir / "metrics.jsonl", strict=True)]
    assert steps == list(range(len(steps))), "every step once"
    again.close()
