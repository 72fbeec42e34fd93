"""Images out of a run's shards: those of the claim or none, also of shards that are being written or are damaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polygen_stream.export.recorded_images import RecordedImages
from polygen_stream.export.shards import ShardSample, ShardWriter
from polygen_stream.ring import Claim

GENERATORS = ("micro/sd15", "micro/sana")
SHAPE = (32, 32, 3)


def image(task: int, member: int) -> np.ndarray:
    return np.random.default_rng([task, member]).integers(0, 256, SHAPE, np.uint8)


def write(folder, tasks, per_shard: int = 8) -> ShardWriter:
    """Four images a task: two of T+, two of T-, by both generators each."""
    shards = ShardWriter(folder, GENERATORS, per_shard)
    for task in tasks:
        samples = [ShardSample(task, m, m > 1, f"caption {task} {m > 1}", m % 2, 10 * task + m) for m in range(4)]
        shards.write(samples, [image(task, m) for m in range(4)])
    return shards


def claim(task: int, member: int) -> Claim:
    return Claim(0, 0, 0, member, task, member % 2, int(member > 1), 10 * task + member, "a caption")


def recorded(folder) -> RecordedImages:
    return RecordedImages(folder, GENERATORS, SHAPE)


def test_every_image_is_found_bit_for_bit(tmp_path):
    write(tmp_path, range(5)).publish()  # two shards and a half
    found = recorded(tmp_path)
    assert len(found) == 5 and found.read(claim(5, 0)) is None
    for task in range(5):
        for member in range(4):
            assert (found.read(claim(task, member)) == image(task, member)).all()


def test_a_shard_that_is_being_written_is_read_and_may_be_completed_meanwhile(tmp_path):
    writer = write(tmp_path, range(5), per_shard=100)
    writer._file.flush()  # of the last task a part is in a buffer
    found = recorded(tmp_path)
    for _ in range(2):
        for task in range(4):
            assert (found.read(claim(task, 3)) == image(task, 3)).all()
        writer.publish()  # it has another name now


@pytest.mark.parametrize("change", [{"seed": 99}, {"generator": 1}, {"polarity": 1}, {"member": 7}, {"task_id": 9}])
def test_an_image_of_something_else_is_none(tmp_path, change):
    write(tmp_path, range(2)).publish()
    assert recorded(tmp_path).read(claim(1, 0)) is not None
    assert recorded(tmp_path).read(replace(claim(1, 0), **change)) is None


def test_images_of_another_size_are_none(tmp_path):
    write(tmp_path, range(2)).publish()
    assert RecordedImages(tmp_path, GENERATORS, (64, 64, 3)).read(claim(0, 0)) is None


@pytest.mark.parametrize("cut", range(0, 20_000, 1700))
def test_a_shard_cut_anywhere_gives_whole_images_or_none(tmp_path, cut):
    write(tmp_path, range(2)).publish()
    shard = tmp_path / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:cut])
    found = recorded(tmp_path)
    for task in range(2):
        for member in range(4):
            read = found.read(claim(task, member))
            assert read is None or (read == image(task, member)).all()


def test_no_folder_is_no_images(tmp_path):
    assert len(recorded(tmp_path / "nowhere")) == 0
