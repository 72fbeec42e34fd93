"""Shards as they are written: whole, in order, and taken up where a killed writer left them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.export.shards import ShardSample, ShardWriter

GENERATORS = ("one", "two")


def write(writer: ShardWriter, task: int) -> None:
    """Two pictures of a caption."""
    samples = [ShardSample(task, member, False, f"caption {task}", member, 5) for member in range(2)]
    writer.write(samples, [np.full((4, 4, 3), task % 256, np.uint8)] * 2)


def keys(folder: Path) -> dict[str, list[str]]:
    found = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            found[shard.name] = [name.removesuffix(".png") for name in tar.getnames() if name.endswith(".png")]
    return found


def test_a_shard_appears_when_it_is_complete(tmp_path):
    writer = ShardWriter(tmp_path, GENERATORS, per_shard=3)
    write(writer, 0)
    assert keys(tmp_path) == {}
    write(writer, 1)
    assert keys(tmp_path) == {"000000.tar": ["000000000-0000", "000000000-0001", "000000001-0000", "000000001-0001"]}
    write(writer, 2)
    writer.publish()
    assert list(keys(tmp_path)) == ["000000.tar", "000001.tar"]
    assert json.loads((tmp_path / "sizes.json").read_text()) == {"000000.tar": 4, "000001.tar": 2}
    assert (writer.samples, writer.shards, writer.tasks) == (6, 2, {0, 1, 2})


def test_equal_samples_make_equal_shards(tmp_path):
    shards = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        writer = ShardWriter(folder, GENERATORS, per_shard=100)
        for task in range(3):
            write(writer, task)
        writer.publish()
        shards.append((folder / "000000.tar").read_bytes())
    assert shards[0] == shards[1]


def test_a_second_writer_goes_on_behind_the_first(tmp_path):
    first = ShardWriter(tmp_path, GENERATORS, per_shard=4)
    for task in range(3):
        write(first, task)
    first.publish()
    second = ShardWriter(tmp_path, GENERATORS, per_shard=4)
    assert (second.tasks, second.samples) == ({0, 1, 2}, 6)
    write(second, 3)
    second.publish()
    assert list(keys(tmp_path)) == ["000000.tar", "000001.tar", "000002.tar"]
    assert sum(json.loads((tmp_path / "sizes.json").read_text()).values()) == 8


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from test_shards import ShardWriter, GENERATORS, Path, write
writer = ShardWriter(Path(sys.argv[1]), GENERATORS, per_shard=60)
for task in range(40):
    write(writer, task)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("torn", [0, 1, 700, 5000])
def test_what_a_killed_writer_had_is_kept_up_to_its_last_task(tmp_path, torn):
    """torn: bytes that did not reach the disk either."""
    killed = subprocess.run([sys.executable, "-c", KILLED.format(here=str(Path(__file__).parent)), str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    left = tmp_path / "000001.tar.writing"
    assert list(keys(tmp_path)) == ["000000.tar"]
    os.truncate(left, left.stat().st_size - torn)
    writer = ShardWriter(tmp_path, GENERATORS, per_shard=60)
    assert set(range(30)) < writer.tasks and 39 not in writer.tasks
    assert writer.samples == 2 * len(writer.tasks)
    for task in range(50):
        if task not in writer.tasks:
            write(writer, task)
    writer.publish()
    found = [key for names in keys(tmp_path).values() for key in names]
    assert len(found) == len(set(found)) == 100
    assert list(tmp_path.glob("*.writing")) == []


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "000000.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match=r"000000.tar is no shard of a run, or damaged"):
        ShardWriter(tmp_path, GENERATORS, 10)
