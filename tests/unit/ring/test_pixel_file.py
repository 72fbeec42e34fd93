"""A ring with a file: what an earlier attempt left in it is used where it is whole, and nothing else of it."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_rings import open_pair, open_plain, pictures, render, small_spec, tasks

from polygen_stream.base.errors import Damaged, PolygenError, UserError
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingMismatch
from polygen_stream.ring.layout import PAGE
from polygen_stream.ring.pixel_file import HEADER, RECORD, PixelFile, file_bytes, read_header, write_owner
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot


@pytest.fixture
def file(tmp_path):
    """The file of the ring's images."""
    return tmp_path / "images.ring"


@pytest.fixture
def filed_ring(file):
    """filed_ring(**changes to small_spec) -> Ring with its images in `file`; the snapshot to restore is `of`."""
    rings = []

    def make(of=None, **changes) -> Ring:
        spec = small_spec(storage=str(file), **changes)
        rings.append(Ring.create(spec, 5.0) if of is None else restore_snapshot(of, spec))
        rings[-1].register("test", "test")
        return rings[-1]

    yield make
    for ring in rings:
        if not hasattr(ring, "killed"):
            ring.close()


def kill(ring: Ring) -> None:
    """What is left of a ring when all its processes were killed: the file."""
    ring.close()
    ring.killed = True


def shown(ring: Ring, plain: int, pair: int = 0) -> dict[tuple[int, int], np.ndarray]:
    """{(task, place among its images): image} of a draw."""
    draw = ring.draw(DrawRequest(0, plain, pair), 0.0)
    slots = {(g.task_id, n): s for g in draw.groups for n, s in enumerate(g.positive_slots + g.negative_slots)}
    return {key: ring.read([slot])[0] for key, slot in slots.items()}


def test_it_takes_no_memory_for_images(filed_ring, file):
    ring = filed_ring(image_shape=(64, 64, 3))
    assert file.stat().st_size == file_bytes(ring.spec) >= 32 * 64 * 64 * 3
    assert file.stat().st_blocks * 512 >= file.stat().st_size  # a full disk is an error now, and not in the middle


@pytest.mark.parametrize("shape", [(4, 4, 3), (33, 31, 3), (64, 64, 3)])
def test_images_come_back_as_they_were_stored(filed_ring, shape):
    ring = filed_ring(image_shape=shape)
    for task in range(8):
        open_plain(ring, task)
    stored = {}
    while claims := ring.claim((0, 1), 5):
        images = pictures(claims, shape)
        assert all(ring.commit(claims, images))
        stored |= {(claim.task_id, claim.member): image for claim, image in zip(claims, images, strict=True)}
    found = shown(ring, 8)
    assert found.keys() == stored.keys() and len(found) == 16
    assert all((found[key] == stored[key]).all() for key in stored)
    assert ring.check() == []


def test_another_process_reads_and_writes_the_same_images(filed_ring):
    import os

    ring = filed_ring()
    open_plain(ring, 0)
    other = Ring.attach(os.dup(ring.fd))
    other.register("renderer", "other")
    claims = other.claim((0,), 1) + other.claim((1,), 1)
    other.commit(claims, pictures(claims))
    other.close()
    assert (ring.read([claim.slot for claim in claims]) == pictures(claims)).all()


def test_everything_rendered_before_the_first_checkpoint_is_used(filed_ring):
    first = filed_ring()
    for task in range(3):
        open_pair(first, task)
    render(first, limit=7)
    kill(first)

    second = filed_ring()
    assert (second.taken_over.whole, second.taken_over.damaged) == (7, 0)
    for task in range(3):
        open_pair(second, task)
        assert second.check() == []
    assert sum(second.stats().images_committed.values()) == 7
    assert render(second) == 12 - 7
    found = shown(second, 0, 3)
    claims_shape = {(task, place) for task in range(3) for place in range(4)}
    assert found.keys() == claims_shape
    for (task, place), image in found.items():
        seed, polarity = 10 * task + place % 2, place // 2
        assert (image == np.random.default_rng([seed, polarity]).integers(0, 256, (4, 4, 3), np.uint8)).all()


def test_a_group_whose_images_are_all_there_is_complete_at_once(filed_ring):
    first = filed_ring()
    open_plain(first, 5)
    render(first)
    kill(first)
    second = filed_ring()
    open_plain(second, 5)
    assert tasks(second.draw(DrawRequest(0, 1, 0), 0.0)) == [5]


@pytest.mark.parametrize("what", ["task", "caption", "seed", "generator", "member"])
def test_an_image_of_something_else_is_not_used(filed_ring, what):
    first = filed_ring()
    first.open_group(5, Kind.PLAIN, "a red cube", None, [Member(0, 0, 1), Member(1, 0, 2)], 0.0)
    render(first, (0,))
    kill(first)
    second = filed_ring()
    members = {
        "seed": [Member(0, 0, 9), Member(1, 0, 2)],
        "generator": [Member(1, 0, 1), Member(1, 0, 2)],
        "member": [Member(1, 0, 2), Member(0, 0, 1)],
    }.get(what, [Member(0, 0, 1), Member(1, 0, 2)])
    text = "a blue ball" if what == "caption" else "a red cube"
    second.open_group(6 if what == "task" else 5, Kind.PLAIN, text, None, members, 0.0)
    assert render(second) == 2
    assert second.check() == []


def test_an_image_of_the_caption_is_not_taken_for_one_of_its_negative(filed_ring):
    first = filed_ring()
    open_pair(first, 5, "one", "other")
    render(first)
    kill(first)
    second = filed_ring()
    open_pair(second, 5, "other", "one")
    assert render(second) == 4


def test_kept_images_are_the_last_to_be_overwritten(filed_ring):
    first = filed_ring()
    for task in range(4):
        open_pair(first, task)
    render(first)
    kill(first)
    second = filed_ring()
    for task in range(4, 8):  # 16 slots are free of images, and these groups want 16
        open_pair(second, task)
    assert render(second) == 16
    for task in range(4):
        open_pair(second, task)
    assert render(second) == 0
    assert len(shown(second, 0, 8)) == 32


def test_a_checkpoint_has_the_table_and_the_file_the_images(filed_ring, tmp_path):
    ring = filed_ring()
    for task in range(3):
        open_plain(ring, task)
    render(ring, limit=3)
    save_snapshot(ring, tmp_path / "snapshot", payload=False)
    render(ring)  # after the checkpoint: the rest of its groups, and one that it does not know
    open_plain(ring, 3)
    render(ring)
    before = shown(ring, 4)
    kill(ring)

    resumed = filed_ring(of=tmp_path / "snapshot")
    assert resumed.taken_over.whole == 8
    open_plain(resumed, 3)
    assert render(resumed) == 0
    assert sum(resumed.stats().images_committed.values()) == 8
    after = shown(resumed, 4)
    assert after.keys() == before.keys() and all((after[key] == before[key]).all() for key in before)


def test_a_checkpoint_of_a_ring_that_kept_images_is_restored_without_the_file(filed_ring, tmp_path):
    first = filed_ring()
    open_plain(first, 5)
    render(first)
    kill(first)
    second = filed_ring()  # it keeps the images of task 5, which has not come again
    save_snapshot(second, tmp_path / "snapshot", payload=False)
    third = restore_snapshot(tmp_path / "snapshot", small_spec())
    third.register("test", "test")
    open_plain(third, 5)
    assert third.check() == [] and render(third) == 2
    third.close()


def test_pages_that_a_power_failure_lost_are_rendered_again(filed_ring, file, tmp_path):
    ring = filed_ring(image_shape=(64, 64, 3))
    for task in range(4):
        open_plain(ring, task)
    render(ring)
    save_snapshot(ring, tmp_path / "snapshot", payload=False)
    kill(ring)
    images = file.stat().st_size - 32 * 64 * 64 * 3
    with file.open("r+b") as raw:
        for slot, page in ((0, 0), (3, 2)):
            raw.seek(images + slot * 64 * 64 * 3 + page * PAGE)
            raw.write(bytes(PAGE))
        raw.seek(HEADER + 5 * RECORD.itemsize)  # a record that was not written
        raw.write(bytes(RECORD.itemsize))
    resumed = filed_ring(of=tmp_path / "snapshot", image_shape=(64, 64, 3))
    assert (resumed.taken_over.whole, resumed.taken_over.damaged) == (5, 2)
    assert render(resumed) == 3
    for (task, place), image in shown(resumed, 4).items():
        expected = np.random.default_rng([10 * task + place, 0]).integers(0, 256, (64, 64, 3), np.uint8)
        assert (image == expected).all()


def test_evicted_groups_leave_nothing_that_is_mistaken_for_new_ones(filed_ring, tmp_path):
    ring = filed_ring(max_times_sampled=1)
    for task in range(16):
        open_plain(ring, task)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 8, 0), 0.0))
    save_snapshot(ring, tmp_path / "snapshot", payload=False)
    for task in range(16, 20):  # take the slots of groups that the snapshot has
        open_plain(ring, task)
    render(ring)
    kill(ring)
    resumed = filed_ring(of=tmp_path / "snapshot", max_times_sampled=1)
    assert render(resumed) == 8
    assert resumed.check() == []
    for (task, place), image in shown(resumed, 8).items():
        assert (image == np.random.default_rng([10 * task + place, 0]).integers(0, 256, (4, 4, 3), np.uint8)).all()


@pytest.mark.parametrize("change", [{"slots": 16, "groups": 8}, {"image_shape": (8, 8, 3)}, {"seed": 8}])
def test_a_file_of_another_ring_is_refused(filed_ring, change):
    kill(filed_ring())
    with pytest.raises(RingMismatch, match=f"holds images of a ring with {next(iter(change))}"):
        filed_ring(**change)


@pytest.mark.parametrize("content", [b"", b"{}", b"photographs", b"\0" * 9000])
def test_what_is_no_file_of_a_ring_is_refused_and_stays(filed_ring, file, content):
    file.write_bytes(content)
    if not content:  # made by somebody who was killed at once
        filed_ring()
        return
    with pytest.raises(RingMismatch, match="does not hold the images of a ring"):
        filed_ring()
    assert file.read_bytes() == content


def test_a_file_that_was_cut_is_refused(filed_ring, file):
    kill(filed_ring())
    with file.open("r+b") as raw:
        raw.truncate(HEADER + 10)
    with pytest.raises(RingMismatch, match="it was cut"):
        filed_ring()


def test_a_file_that_a_killed_process_was_allocating_is_laid_out_again(filed_ring, file):
    kill(filed_ring())
    header = read_header(file)
    file.write_bytes(json.dumps(header | {"allocated": False}).encode().ljust(HEADER) + bytes(100))
    ring = filed_ring()
    assert file.stat().st_size == file_bytes(ring.spec) and read_header(file)["allocated"]


def test_holes_of_a_copied_file_are_filled(filed_ring, file):
    kill(filed_ring(image_shape=(64, 64, 3)))
    content = file.read_bytes()
    with file.open("wb") as raw:  # as cp --sparse makes it
        raw.write(content[:HEADER])
        raw.truncate(len(content))
    filed_ring(image_shape=(64, 64, 3))
    assert file.stat().st_blocks * 512 >= len(content)


def test_the_longest_path_of_a_run_fits_the_header(filed_ring, file):
    ring = filed_ring(generators=tuple(f"generator {n:02d} {'x' * 40}" for n in range(62)), groups=16)
    write_owner(file, Path("/" + "é" * 2000))  # 4,000 bytes of the 4,096 that a path may have
    assert read_header(file)["run"].endswith("éé")
    open_plain(ring, 0)
    assert render(ring) == 2 and ring.check() == []


def test_a_damaged_picture_of_a_snapshot_is_damage_for_a_file_too(new_ring, file, tmp_path):
    ring = new_ring(image_shape=(64, 64, 3))
    open_plain(ring, 0)
    render(ring)
    save_snapshot(ring, path := tmp_path / "snapshot", payload=True)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # pictures are the last tensor
    path.write_bytes(content)
    for storage in ("", str(file)):
        with pytest.raises(Damaged, match="pixels of slot"):
            restore_snapshot(path, replace(ring.spec, storage=storage))


def test_a_resume_reads_every_image_once(filed_ring, tmp_path, monkeypatch):
    ring = filed_ring()
    for task in range(16):
        open_plain(ring, task)
    render(ring)
    save_snapshot(ring, tmp_path / "snapshot", payload=False)
    kill(ring)
    read, real = [], PixelFile.read
    monkeypatch.setattr(PixelFile, "read", lambda self, slots, out=None: read.extend(slots) or real(self, slots, out))
    filed_ring(of=tmp_path / "snapshot")
    assert sorted(read) == list(range(32))


def test_reading_can_be_interrupted_and_leaves_the_file_as_it_is(filed_ring, file, tmp_path):
    ring = filed_ring()
    open_plain(ring, 0)
    render(ring)
    kill(ring)
    before = file.read_bytes()

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ring.create(small_spec(storage=str(file)), progress=stop)
    assert file.read_bytes() == before


def test_a_file_cut_while_the_run_goes_on_is_an_error_of_the_reader(filed_ring, file):
    ring = filed_ring()
    open_plain(ring, 0)
    render(ring)
    with file.open("r+b") as raw:
        raw.truncate(file_bytes(ring.spec) - 32 * PAGE)
    with pytest.raises(PolygenError, match="the file was cut"):
        ring.read([0])


def test_a_disk_without_room_is_one_line_and_leaves_no_file(new_ring, tmp_path):
    path = tmp_path / "images.ring"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # to this process a disk that is full from there on
    try:
        with pytest.raises(UserError, match=r"images need 92 MiB, but .* free some space there"):
            new_ring(storage=str(path), image_shape=(1000, 1000, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_to_is_named(new_ring, tmp_path):
    with pytest.raises(UserError, match=r"cannot make .* choose another folder for ring\.storage"):
        new_ring(storage=str(tmp_path / "nowhere" / "images.ring"))


def test_a_folder_is_not_taken_for_the_file(new_ring, tmp_path):
    with pytest.raises(ValueError, match=r"is not the path of a file \*\.ring"):
        new_ring(storage=str(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []
