"""The draw board: one draw, shared by the ranks of a node; with processes that really are several."""

from __future__ import annotations

import json
import os
import signal

import pytest
from killed_children import fork_child, was_killed
from small_rings import open_pair, open_plain, render, tasks

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring import DrawRequest, Kind, Ring, RingExhausted, RingTimeout
from polygen_stream.ring.layout import BOARD_STEPS


@pytest.fixture
def ring(new_ring):
    """Twelve complete groups, four of them pairs."""
    ring = new_ring(slots=64, groups=16)
    for task in range(12):
        (open_pair if task % 3 == 0 else open_plain)(ring, task)
    render(ring)
    return ring


def leased(ring: Ring) -> int:
    return sum(counts["leased"] for counts in ring.stats().groups.values())


@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_slices_are_a_partition_in_the_batchs_order(ring, world):
    summary, waited_s = ring.broadcast(DrawRequest(0, 5, 3), world, 0.0)
    record = summary.record
    assert waited_s == 0.0
    assert record.kinds == (Kind.PLAIN,) * 5 + (Kind.PAIR,) * 3
    slices = [ring.receive(0, rank, world, 0.0) for rank in range(world)]
    for rank, draw in enumerate(slices):
        assert tuple(tasks(draw)) == record.task_ids[rank::world]
        assert draw.record.kinds == record.kinds[rank::world]
        assert draw.record.generations == record.generations[rank::world]
    sizes = [len(draw.groups) for draw in slices]
    assert sum(sizes) == 8 and max(sizes) - min(sizes) <= 1
    for draw in slices:
        ring.release(draw)
    assert leased(ring) == 0
    assert ring.check() == []


def test_a_post_is_the_draw_of_its_step(new_ring):
    """Same groups in the same order, same counters; only the sharing is added."""
    rings = [new_ring(slots=64, groups=16) for _ in range(2)]
    for ring in rings:
        for task in range(12):
            open_plain(ring, task)
        render(ring)
    for step in range(3):
        summary, _ = rings[0].broadcast(DrawRequest(step, 5, 0), 2, 0.0)
        draw = rings[1].draw(DrawRequest(step, 5, 0), 0.0)
        assert summary.record == draw.record
        for rank in range(2):
            rings[0].release(rings[0].receive(step, rank, 2, 0.0))
        rings[1].release(draw)
    assert [ring.stats().samples for ring in rings] == [15, 15]


def test_named_groups_come_first_in_the_broadcast_batch_and_the_summary_has_their_rows(ring):
    groups = {group.task_id: group for group in ring.groups_snapshot(12)}
    first = [(groups[task].row, groups[task].generation) for task in (8, 6, 1)]
    for step in range(2):  # in the second step they have been drawn, and others have not
        summary, _ = ring.broadcast(DrawRequest(step, 6, 1, first=first), 2, 0.0)
        tasks = summary.record.task_ids
        assert tasks[:2] == (8, 1) and tasks[-1] == 6
        assert summary.rows == tuple(groups[task].row for task in tasks)
        assert summary.has_negative == tuple(groups[task].has_negative for task in tasks)
        for rank in range(2):
            ring.release(ring.receive(step, rank, 2, 0.0))


def test_pixels_stay_until_the_last_rank_has_released(new_ring):
    ring = new_ring(slots=4, max_times_sampled=1)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    ring.broadcast(DrawRequest(0, 2, 0), 2, 0.0)
    with pytest.raises(RingTimeout, match="2 leased"):
        open_plain(ring, 2)
    ring.release(ring.receive(0, 0, 2, 0.0))
    slow = ring.receive(0, 1, 2, 0.0)
    open_plain(ring, 2)  # in the place of the slice that was released
    with pytest.raises(RingTimeout, match="1 leased"):
        open_plain(ring, 3)
    ring.release(slow)
    open_plain(ring, 3)


def test_the_leader_waits_for_ranks_that_are_too_far_behind(ring):
    for step in range(BOARD_STEPS):
        ring.broadcast(DrawRequest(step, 2, 0), 3, 0.0)
        ring.release(ring.receive(step, 0, 3, 0.0))
        if step:
            ring.release(ring.receive(step, 2, 3, 0.0))
    with pytest.raises(RingTimeout, match="rank 1, 2 has not received its slice of step 0 from the draw board"):
        ring.broadcast(DrawRequest(BOARD_STEPS, 2, 0), 3, 0.0)
    for rank in (1, 2):
        ring.release(ring.receive(0, rank, 3, 0.0))
    ring.broadcast(DrawRequest(BOARD_STEPS, 2, 0), 3, 0.0)
    assert ring.check() == []


def test_misuse_is_named(ring):
    ring.broadcast(DrawRequest(0, 2, 0), 2, 0.0)
    with pytest.raises(PolygenError, match="step 0 is on the draw board already; only one rank may lead"):
        ring.broadcast(DrawRequest(0, 2, 0), 2, 0.0)
    with pytest.raises(PolygenError, match="step 0 was broadcast to 2 ranks, but rank 2 counts 3"):
        ring.receive(0, 2, 3, 0.0)
    ring.receive(0, 1, 2, 0.0)
    with pytest.raises(PolygenError, match="rank 1 has received its slice of step 0 already"):
        ring.receive(0, 1, 2, 0.0)
    with pytest.raises(
        RingTimeout, match=r"rank 1 waited 0\.0 s for step 7 on the draw board, the newest step there is 0"
    ):
        ring.receive(7, 1, 2, 0.0)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        ring.receive(0, 2, 2, 0.0)
    with pytest.raises(ValueError, match="1 to 62"):
        ring.broadcast(DrawRequest(1, 2, 0), 63, 0.0)
    ring.finish_opening()
    with pytest.raises(RingExhausted):
        ring.broadcast(DrawRequest(1, 2, 5), 2, 60.0)


def test_several_processes_share_every_batch(ring):
    """Three real ranks, nobody waits for anybody but through the ring; each reports what it got."""
    steps, world = 20, 3

    def report(taken: list[list[int]]) -> None:
        os.write(writer, (json.dumps(taken) + "\n").encode())

    def rank(number: int):
        def work(mine: Ring) -> None:
            taken = []
            for step in range(steps):
                if number == 0:
                    summary, _ = mine.broadcast(DrawRequest(step, 5, 2), world, 60.0)
                draw = mine.receive(step, number, world, 60.0)
                for group in draw.groups:
                    mine.read(group.positive_slots)
                mine.release(draw)
                taken.append([number, step, *tasks(draw)])
                if number == 0:
                    taken.append([-1, step, *summary.record.task_ids])
            report(taken)

        return work

    reader, writer = os.pipe()
    children = [fork_child(ring, rank(number)) for number in range(world)]
    assert not any([was_killed(child) for child in children])
    os.close(writer)
    with os.fdopen(reader) as lines:
        got = {(number, step): row for line in lines for number, step, *row in json.loads(line)}
    for step in range(steps):
        batch = got[-1, step]
        assert len(set(batch)) == 7
        assert [got[number, step] for number in range(world)] == [batch[number::world] for number in range(world)]
    assert leased(ring) == 0
    assert ring.check() == []


def test_leases_of_dead_ranks_and_dead_leaders_come_back(ring):
    def lead(mine: Ring) -> None:
        mine.broadcast(DrawRequest(0, 4, 2), 3, 0.0)
        mine.receive(0, 0, 3, 0.0)
        os.kill(os.getpid(), signal.SIGKILL)

    def follow(mine: Ring) -> None:
        mine.receive(0, 1, 3, 0.0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert was_killed(fork_child(ring, lead))
    assert was_killed(fork_child(ring, follow))
    mine = ring.receive(0, 2, 3, 0.0)  # the leader is dead, but not yet reaped
    assert leased(ring) == 6
    assert ring.check() == []
    lines = sorted(ring.reap())
    assert len(lines) == 2 and all("2 leases dropped" in line for line in lines)
    assert leased(ring) == 2  # ours
    with pytest.raises(RingTimeout, match="draw board, it is empty"):
        ring.receive(0, 1, 3, 0.0)
    ring.release(mine)
    assert leased(ring) == 0
    ring.broadcast(DrawRequest(0, 4, 2), 3, 0.0)  # by the next leader
    assert ring.check() == []
