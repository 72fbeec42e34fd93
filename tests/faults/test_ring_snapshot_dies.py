"""Snapshots of a ring in use, by processes that may die: whole or not there, right, and nobody has to wait for them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np
from killed_children import fork_child, lines_of, stop_at, was_killed
from small_rings import open_pair, open_plain, render

from polygen_stream.base import files
from polygen_stream.ring import DrawRequest, Ring, RingSpec, RingTimeout, snapshot, state
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot

PICTURE = (32, 32, 3)


def in_memory(spec: RingSpec) -> RingSpec:
    """Of a second ring beside one whose file is in use."""
    return replace(spec, storage="")


def churn(ring: Ring) -> None:
    """Captioner and trainer in one: every group is opened, drawn once and evicted, so that slots are used again."""
    task = step = 0
    while ring.step == 0:
        try:
            open_plain(ring, task, timeout_s=0.02)
            task += 1
            ring.release(ring.draw(DrawRequest(step, 2, 0), timeout_s=0.0))
            step += 1
        except RingTimeout:
            pass


def produce(ring: Ring) -> None:
    while ring.step == 0:
        render(ring, limit=16)


def test_snapshots_of_a_ring_that_is_written_all_the_time_are_right(new_ring, tmp_path):
    ring = new_ring(slots=64, groups=32, image_shape=PICTURE, max_times_sampled=1)
    children = [fork_child(ring, work) for work in (churn, produce, produce)]
    committed, snapshots, pictures = 0, 0, 0
    deadline = time.monotonic() + 120
    while committed < 1000 or snapshots < 10:
        assert time.monotonic() < deadline, (committed, snapshots)
        before = sum(ring.stats().images_committed.values())
        saved = save_snapshot(ring, tmp_path / "ring", payload=True)
        committed += sum(ring.stats().images_committed.values()) - before
        snapshots += 1
        pictures += saved.pictures
        second = restore_snapshot(tmp_path / "ring", in_memory(ring.spec))
        assert second.check() == []  # the pixels of every READY slot have its checksum
        for group in second.groups_snapshot(99):
            shown = zip(group.positive_generators, second.read(group.positive_slots), strict=True)
            for generator, picture in shown:
                seed = [10 * group.task_id + generator, 0]
                assert (picture == np.random.default_rng(seed).integers(0, 256, PICTURE, np.uint8)).all()
        second.close()
    assert pictures > 0
    ring.set_step(1)
    assert [was_killed(child) for child in children] == [False] * 3
    assert ring.check() == []


def test_killed_anywhere_in_saving_leaves_the_old_snapshot_or_the_new_one(new_ring, tmp_path):
    ring, path = new_ring(slots=64, groups=32), tmp_path / "ring"
    points = set().union(
        *(
            lines_of(function.__code__)
            for function in (
                snapshot.save_snapshot, snapshot._write, snapshot._write_pictures, files.replacing.__wrapped__,
                files.flush, state.copy_state,
            )
        )
    )  # fmt: skip
    open_plain(ring, 0)
    render(ring)
    save_snapshot(ring, path, payload=True)
    open_pair(ring, 1)
    render(ring)
    found = []
    for kill_at in range(1, 1000, 3):  # most points are turns of the same three loops

        def save(mine: Ring, kill_at: int = kill_at) -> None:
            stop_at(kill_at, points, signal.SIGKILL)
            save_snapshot(mine, path, payload=True)

        if not was_killed(fork_child(ring, save)):
            break
        ring.reap()
        second = restore_snapshot(path, in_memory(ring.spec))
        assert second.check() == []
        found.append([group.task_id for group in second.groups_snapshot(99)])
        second.close()
        assert ring.check() == []
    published = found.index([0, 1])
    assert published > 20
    assert found == [[0]] * published + [[0, 1]] * (len(found) - published)
    save_snapshot(ring, path, payload=True)
    assert os.listdir(tmp_path) == ["ring"]
    assert ring.stats().recoveries > 0, "nobody was killed while holding the mutex"


def test_a_stopped_copier_holds_nobody_up_once_it_has_the_columns(new_ring, tmp_path):
    """SIGSTOP between the columns and the pictures: producers go on for as long as they like."""
    ring = new_ring(slots=8, groups=4, members=2, max_times_sampled=1)
    open_plain(ring, 0)
    render(ring)

    def save(mine: Ring) -> None:
        stop_at(1, lines_of(snapshot._write_pictures.__code__), signal.SIGSTOP)
        save_snapshot(mine, tmp_path / "ring", payload=True)

    child = fork_child(ring, save)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    for step in range(50):
        open_plain(ring, 1 + step)
        render(ring)
        ring.release(ring.draw(DrawRequest(step, 1, 0), 0.0))
    os.kill(child, signal.SIGCONT)
    assert not was_killed(child)
    second = restore_snapshot(tmp_path / "ring", in_memory(ring.spec))
    stats = second.stats()
    assert stats.backlog == {"one": 1, "two": 1}, "its pictures were overwritten before they were copied"
    assert second.check() == []
    second.close()
