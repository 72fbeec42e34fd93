from __future__ import annotations

import json
from enum import Enum

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from small_rings import open_plain, render

from polygen_stream.ring import DrawRequest
from polygen_stream.schedule.leftover import Lane, LeftoverQueue, Reason

GROUPS, MAX_AGE = 24, 5  # so six may wait


class Answer(Enum):
    PINNED = "pinned"
    FULL = "full"
    GONE = "gone"


class Shelf:
    """A ring as a queue sees it: which group lies in which row, which are pinned, and room for `room` pins."""

    def __init__(self, room: int = GROUPS) -> None:
        self.generation = dict.fromkeys(range(GROUPS), 1)
        self.pinned: set[tuple[int, int]] = set()
        self.room = room

    def pin(self, row: int, generation: int) -> Answer:
        if self.generation[row] != generation:
            return Answer.GONE
        if len(self.pinned) >= self.room:
            return Answer.FULL
        self.pinned.add((row, generation))
        return Answer.PINNED

    def unpin(self, row: int, generation: int) -> bool:
        found = (row, generation) in self.pinned
        self.pinned.discard((row, generation))
        return found

    def evict(self, row: int) -> None:
        assert (row, self.generation[row]) not in self.pinned
        self.generation[row] += 1


def queue_on(shelf: Shelf) -> LeftoverQueue:
    return LeftoverQueue(shelf, GROUPS, MAX_AGE)


lanes = st.sampled_from(list(Lane))
rows = st.integers(0, GROUPS - 1)


class QueueMachine(RuleBasedStateMachine):
    """Any order of events against a plain list of (lane, group, step) and of what left it."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf(room=5)  # fewer than the queue would keep: the ring refuses, too
        self.queue = queue_on(self.shelf)
        self.step = 0
        self.model: list[tuple[Lane, tuple[int, int], int]] = []
        self.left = {lane: {"trained": 0} | {str(reason): 0 for reason in Reason} for lane in Lane}

    def leave(self, how: str, chosen) -> None:
        for lane, _, _ in chosen:
            self.left[lane][how] += 1
        self.model = [entry for entry in self.model if entry not in chosen]

    @rule(lane=lanes, row=rows, stale=st.booleans())
    def put(self, lane, row, stale):
        group = (row, self.shelf.generation[row] - stale)
        known = any(group == other for _, other, _ in self.model)
        answer = self.queue.put(lane, group, self.step)
        if known:
            assert answer is None
        elif stale and len(self.model) < GROUPS // 4:
            assert answer is Reason.GONE
            self.left[lane]["gone"] += 1
        elif len(self.model) >= self.shelf.room:
            assert answer is Reason.FULL
            self.left[lane]["full"] += 1
        else:
            assert answer is None
            self.model.append((lane, group, self.step))

    @rule(lane=lanes, drawn=st.sets(rows))
    def draw(self, lane, drawn):
        groups = [(row, self.shelf.generation[row]) for row in drawn]
        self.queue.drawn(lane, groups)
        self.leave("trained", [entry for entry in self.model if entry[0] is lane and entry[1] in groups])

    @rule(steps=st.integers(1, 3))
    def go_on(self, steps):
        self.step += steps
        self.queue.expire(self.step)
        self.leave("old", [entry for entry in self.model if self.step - entry[2] >= MAX_AGE])

    @rule(row=rows)
    @precondition(lambda self: len(self.shelf.pinned) < GROUPS)
    def evict(self, row):
        if (row, self.shelf.generation[row]) not in self.shelf.pinned:
            self.shelf.evict(row)

    @rule()
    def save_and_load(self):
        state = json.loads(json.dumps(self.queue.state_dict()))
        self.queue = queue_on(self.shelf)
        self.queue.load_state_dict(state)

    @rule(lost=st.sets(rows), strangers=st.sets(rows, max_size=2))
    def resume_on_a_ring_that_lost_some_pins_and_kept_old_ones(self, lost, strangers):
        self.shelf.pinned = {group for group in self.shelf.pinned if group[0] not in lost}
        self.leave("gone", [entry for entry in self.model if entry[1] not in self.shelf.pinned])
        self.shelf.pinned |= {(row, self.shelf.generation[row]) for row in strangers - lost}
        self.queue.settle(self.shelf.pinned)

    @invariant()
    def nothing_is_lost(self):
        for lane in Lane:
            left = self.left[lane]
            assert self.queue.trained[lane] == left["trained"]
            assert self.queue.dropped[lane] == {reason: left[reason] for reason in Reason}
            waiting = len(self.queue.waiting(lane))
            assert self.queue.entered[lane] == left["trained"] + waiting + sum(left[reason] for reason in Reason)

    @invariant()
    def lanes_are_in_order_bounded_and_pinned(self):
        for lane in Lane:
            assert self.queue.waiting(lane) == [group for at, group, _ in self.model if at is lane]
        assert len(self.queue) <= GROUPS // LeftoverQueue.SHARE
        assert self.shelf.pinned == {group for _, group, _ in self.model}
        assert all(self.step - entered < MAX_AGE for _, _, entered in self.model)


QueueMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnyOrderOfEvents = QueueMachine.TestCase


def test_a_quarter_of_the_ring_may_wait_and_the_rest_is_dropped_by_reason():
    queue = queue_on(Shelf())
    answers = [queue.put(lane, (row, 1), 0) for row, lane in enumerate([*Lane] * 3)]
    assert answers == [None] * 6 + [Reason.FULL] * 3
    assert [queue.dropped[lane][Reason.FULL] for lane in Lane] == [1, 1, 1]
    assert len(queue) == 6


def test_a_waiting_group_is_not_evicted_from_a_real_ring_until_it_is_drawn(new_ring):
    ring = new_ring(slots=8, groups=8)  # four groups of two fill it; one of them may be pinned
    queue = LeftoverQueue(ring, ring.spec.groups, max_age=10)
    for task in range(4):
        open_plain(ring, task)
    render(ring)
    draw = ring.draw(DrawRequest(0, 4, 0), timeout_s=1)
    first = min(draw.groups, key=lambda group: group.task_id)
    queue.put(Lane.DISPLACED, (first.row, first.generation), step=0)
    ring.release(draw)
    for task in range(4, 7):  # everybody else goes
        open_plain(ring, task, timeout_s=1)
    assert ring.pinned() == queue.waiting(Lane.DISPLACED) == [(first.row, first.generation)]
    assert 0 in [group.task_id for group in ring.groups_snapshot(8)]
    queue.drawn(Lane.DISPLACED, [(first.row, first.generation)])
    open_plain(ring, 7, timeout_s=1)
    assert ring.pinned() == [] and ring.groups_snapshot(8) == []
    assert queue.put(Lane.DISPLACED, (first.row, first.generation), step=1) is Reason.GONE


def test_a_queue_in_which_nothing_may_wait_is_refused():
    with pytest.raises(ValueError, match="max_age >= 1, not 0"):
        LeftoverQueue(Shelf(), GROUPS, max_age=0)
