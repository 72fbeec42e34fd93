"""Groups that a draw is asked to take before others, and the ones nobody has seen."""

from __future__ import annotations

from small_rings import open_pair, open_plain, render, tasks

from polygen_stream.ring import DrawRequest, Ring


def groups_of(ring: Ring) -> dict[int, tuple[int, int]]:
    """(row, generation) of each task."""
    return {group.task_id: (group.row, group.generation) for group in ring.groups_snapshot(99)}


def filled(new_ring) -> Ring:
    """Tasks 0 to 4 are plain, 5 to 7 pairs."""
    ring = new_ring(slots=64)
    for task in range(5):
        open_plain(ring, task)
    for task in range(5, 8):
        open_pair(ring, task)
    render(ring)
    return ring


def test_named_groups_lead_their_kind_in_the_order_given_however_often_they_were_drawn(new_ring):
    ring = filled(new_ring)
    row = groups_of(ring)
    for step in range(3):  # tasks 3, 1 and 6 have been drawn, others not
        ring.release(ring.draw(DrawRequest(step, 2, 1, first=[row[3], row[6], row[1]]), timeout_s=1))
    draw = ring.draw(DrawRequest(3, 3, 2, first=[row[3], row[6], row[1]]), timeout_s=1)
    assert tasks(draw)[:2] == [3, 1] and tasks(draw)[2] in (0, 2, 4)
    assert tasks(draw)[3] == 6 and tasks(draw)[4] in (5, 7)
    assert len(set(tasks(draw))) == 5


def test_a_group_that_is_not_there_any_more_is_passed_over(new_ring):
    ring = filled(new_ring)
    usual, row = ring.draw(DrawRequest(0, 2, 1), timeout_s=1), groups_of(ring)
    other = filled(new_ring)
    stale = [(row[task][0], row[task][1] - 1) for task in range(8)]
    assert tasks(other.draw(DrawRequest(0, 2, 1, first=stale), timeout_s=1)) == tasks(usual)


def test_a_named_pair_does_not_lead_when_pairs_stand_in_for_plain_groups(new_ring):
    ring = filled(new_ring)
    row = groups_of(ring)
    ring.release(ring.draw(DrawRequest(0, 5, 3), timeout_s=1))
    ring.release(ring.draw(DrawRequest(1, 0, 1, first=[row[6]]), timeout_s=1))
    draw = ring.draw(DrawRequest(2, 7, 0, first=[row[6]]), timeout_s=1)
    assert set(tasks(draw)) == {0, 1, 2, 3, 4, 5, 7}  # 6 was drawn most often
    assert [group.has_negative for group in draw.groups] == [False] * 5 + [True] * 2
    assert all(group.negative is None for group in draw.groups)


def test_unseen_groups_are_those_nobody_drew_or_holds_oldest_first(new_ring):
    ring = filled(new_ring)
    row = groups_of(ring)
    assert ring.unseen(99) == [row[task] for task in range(8)]
    ring.release(ring.draw(DrawRequest(0, 1, 1, first=[row[2], row[5]]), timeout_s=1))
    ring.pin(*row[0])
    assert ring.unseen(99) == [row[task] for task in (1, 3, 4, 6, 7)]
    assert ring.unseen(2) == [row[1], row[3]]
    open_plain(ring, 8)  # not complete
    assert len(ring.unseen(99)) == 5
