"""What bounds openings, reuse and eviction beyond the ring's size: age, pins, backlogs, and limits changed live."""

from __future__ import annotations

import dataclasses

import pytest
from small_rings import open_pair, open_plain, render, small_spec, tasks

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import DrawRequest, Kind, Limits, Member, PinResult, Ring, RingExhausted, RingTimeout
from polygen_stream.ring.limiter import RateLimiter


def drawn(ring: Ring, step: int, plain: int, pair: int = 0) -> list[int]:
    draw = ring.draw(DrawRequest(step, plain, pair), 0.0)
    ring.release(draw)
    return tasks(draw)


def complete(ring: Ring) -> list[int]:
    return [group.task_id for group in ring.groups_snapshot(ring.spec.groups)]


def pin(ring: Ring, task: int) -> PinResult:
    [group] = [group for group in ring.groups_snapshot(ring.spec.groups) if group.task_id == task]
    return ring.pin(group.row, group.generation)


# ---- age


def test_a_group_is_drawn_for_max_age_steps_after_its_opening(new_ring):
    ring = new_ring(max_age=3)
    open_plain(ring, 0)
    render(ring)
    ring.set_step(2)
    open_plain(ring, 1)
    render(ring)
    ring.set_step(3)
    assert sorted(drawn(ring, 3, 2)) == [0, 1]
    ring.set_step(4)
    assert drawn(ring, 4, 1) == [1]
    with pytest.raises(RingTimeout, match="1 of 2 PLAIN are ready"):
        ring.draw(DrawRequest(4, 2, 0), 0.0)
    ring.finish_opening()
    with pytest.raises(RingExhausted, match=r"ring.max_age 3"):
        ring.draw(DrawRequest(4, 2, 0), 60.0)


def test_groups_over_age_make_room_first_even_if_nobody_has_seen_them(new_ring):
    ring = new_ring(slots=6, max_age=1, max_times_sampled=1)
    open_plain(ring, 0)
    ring.set_step(1)
    open_plain(ring, 1)
    open_plain(ring, 2)
    render(ring)
    [used_up] = drawn(ring, 1, 1)
    with pytest.raises(RingTimeout):
        open_pair(ring, 3)  # one group is used up, which makes room for two images
    ring.set_step(2)
    assert 0 in complete(ring)  # over age from here on
    open_plain(ring, 3)
    assert 0 not in complete(ring)
    ring.set_step(3)  # now all are
    open_pair(ring, 4)
    assert complete(ring) == []
    assert ring.check() == []
    assert used_up in (0, 1, 2)


# ---- pins


def test_a_pinned_group_is_not_evicted_but_drawn(new_ring):
    ring = new_ring(slots=8, max_times_sampled=2)
    for task in range(4):
        open_plain(ring, task)
    render(ring)
    assert pin(ring, 0) is PinResult.PINNED
    assert pin(ring, 0) is PinResult.PINNED  # twice is once
    for step in range(2):
        assert sorted(drawn(ring, step, 4)) == [0, 1, 2, 3]
    for task in (4, 5, 6):
        open_plain(ring, task)
    with pytest.raises(RingTimeout):
        open_plain(ring, 7)
    assert complete(ring) == [0]
    assert ring.stats().pinned == 1
    [(row, generation)] = ring.pinned()
    assert ring.unpin(row, generation)
    assert not ring.unpin(row, generation)
    open_plain(ring, 7)
    assert complete(ring) == [] and ring.check() == []


def test_pins_take_a_quarter_of_the_ring_and_refusals_are_counted(new_ring):
    ring = new_ring(slots=32, groups=16)
    for task in range(8):
        open_pair(ring, task)
    render(ring)
    assert [pin(ring, task) for task in (0, 1, 2)] == [
        PinResult.PINNED,
        PinResult.PINNED,
        PinResult.FULL,
    ]  # 8 of 32 slots
    assert ring.unpin(*ring.pinned()[0])
    assert pin(ring, 2) is PinResult.PINNED
    assert (ring.stats().pinned, ring.stats().pins_refused) == (2, 1)


def test_pins_take_a_quarter_of_the_group_rows(new_ring):
    ring = new_ring(slots=32, groups=8)
    for task in range(8):
        open_plain(ring, task)
    render(ring)
    assert [pin(ring, task) for task in (0, 1, 2)] == [PinResult.PINNED, PinResult.PINNED, PinResult.FULL]


def test_a_group_that_is_gone_cannot_be_pinned(new_ring):
    """The generation a draw reports tells the group from the next one in its row."""
    ring = new_ring(slots=8, groups=4, max_times_sampled=1)
    open_plain(ring, 0)
    render(ring)
    draw = ring.draw(DrawRequest(0, 1, 0), 0.0)
    ring.release(draw)
    [old] = draw.groups
    for task in range(1, 5):
        open_plain(ring, task)  # the last one into the row of the first
    assert ring.pin(old.row, old.generation) is PinResult.GONE
    render(ring)
    assert ring.pin(old.row, old.generation) is PinResult.GONE
    assert not ring.unpin(old.row, old.generation)
    assert ring.pin(old.row, old.generation + 1) is PinResult.PINNED
    assert ring.stats().pins_gone == 2
    with pytest.raises(ValueError, match="group row 4 of 4"):
        ring.pin(4, 1)


# ---- backlogs


def test_the_backlog_of_a_slow_generator_is_bounded_and_named(new_ring):
    ring = new_ring(max_backlog=4)

    def open_for(task: int, generators: tuple[int, ...]) -> None:
        members = [Member(generator, 0, task) for generator in generators]
        ring.open_group(task, Kind.PLAIN, f"caption {task}", None, members, 0.0)

    for task in range(4):
        open_for(task, (0, 1))
        render(ring, (0,))
    with pytest.raises(RingTimeout, match=r"generator 'two' has its ring.max_backlog of 4 images"):
        open_for(4, (0, 1))
    open_for(4, (0, 0))  # the others go on
    ring.claim([1], 2)  # images being rendered are still to be rendered
    with pytest.raises(RingTimeout):
        open_for(5, (1,))
    assert ring.stats().backlog == {"one": 2, "two": 4}


def test_a_backlog_smaller_than_a_group_is_refused():
    with pytest.raises(UserError, match="max_backlog is 3, but one group may ask a generator for 4 images"):
        Ring.create(small_spec(max_backlog=3))


# ---- live limits


def test_limits_start_as_in_the_spec_and_change_for_everybody(new_ring):
    ring = new_ring(max_times_sampled=1)
    assert ring.limits == Limits.of(ring.spec)
    open_plain(ring, 0)
    render(ring)
    drawn(ring, 0, 1)
    with pytest.raises(RingTimeout):
        drawn(ring, 1, 1)
    assert ring.set_limits(max_times_sampled=2).max_times_sampled == 2
    assert drawn(ring, 1, 1) == [0]
    assert ring.stats().limiter["max_times_sampled"] == 2
    assert dataclasses.replace(ring.limits, max_times_sampled=1) == Limits.of(ring.spec)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"samples_per_insert": 2.0}, "gives a limiter window of 0.0, narrower than"),
        (
            {"samples_per_insert": 2.0, "error_buffer": 2.0},
            r"batch of 3 groups needs .* raise ring.error_buffer to 2.5",
        ),
        (
            {"samples_per_insert": 4.0, "error_buffer": 99.0, "max_times_sampled": 3},
            "can never be reached when no group",
        ),
        ({"min_fill": 17}, "can never be reached with 16 groups"),
        ({"min_fill": 2}, "after the first draw"),
        ({"max_age": -1}, "ring.max_age is -1"),
        ({"max_age": 1.5}, "whole number"),
        ({"error_buffer": float("nan")}, "ring.error_buffer is nan"),
    ],
)
def test_limits_that_must_deadlock_are_refused_and_nothing_changes(new_ring, changes, complaint):
    ring = new_ring()
    for task in range(3):
        open_plain(ring, task)
    render(ring)
    drawn(ring, 0, 3)  # the batch that limits must leave possible
    with pytest.raises(UserError, match=complaint):
        ring.set_limits(**changes)
    assert ring.limits == Limits.of(ring.spec)
    with pytest.raises(TypeError, match="slots"):
        ring.set_limits(slots=3)


def test_a_new_ratio_does_not_count_the_past(new_ring):
    """Four samples per insert were drawn so far; at one per insert neither side has a debt from that."""
    ring = new_ring(slots=64, samples_per_insert=4.0, error_buffer=6.0, max_times_sampled=8)
    for task in range(4):
        open_plain(ring, task)
        render(ring)
        while True:
            try:
                drawn(ring, 0, 1)
            except RingTimeout:
                break
    assert ring.stats().samples >= 12
    ring.set_limits(samples_per_insert=1.0, error_buffer=2.0)
    steps = inserts = 0
    for task in range(4, 12):
        try:
            while True:
                drawn(ring, 0, 1)
                steps += 1
        except RingTimeout:
            pass
        open_plain(ring, task)
        inserts += 1
        render(ring)
    assert inserts == 8
    assert abs(steps - inserts) <= 4  # the width of the window


def test_limiter_keeps_its_distance_from_the_centre_when_the_ratio_changes():
    old = RateLimiter(samples_per_insert=4.0, min_fill=10, error_buffer=8.0)
    limits = Limits(samples_per_insert=1.0, error_buffer=3.0, min_fill=10, max_times_sampled=0, max_age=0)
    for inserts, samples, expected in ((100, 360, 0.0), (100, 358, 2.0), (100, 352, 3.0), (100, 368, -3.0)):
        new = old.changed_to(limits, inserts, samples)
        assert new.difference(inserts, samples) - new.centre == expected
    assert old.changed_to(limits, 100, 0).offset == 0.0  # before the first draw the window counts from the start


def test_a_draw_that_waits_for_pairs_is_not_kept_from_them_by_the_limiter(new_ring):
    """The window lets the trainer draw and holds the producers back, but what it needs is not there."""
    ring = new_ring(slots=64, samples_per_insert=2.0, error_buffer=3.0)
    for task in range(2):
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingTimeout, match="rate limiter holds it back"):
        open_pair(ring, 2)
    opened = []

    def producers() -> bool:  # called while the draw waits
        if not opened:
            opened.append(open_pair(ring, 2))
            with pytest.raises(RingTimeout):
                open_pair(ring, 3)  # no more than it is short of
            render(ring)
        return False

    assert tasks(ring.draw(DrawRequest(0, 0, 1), 60.0, producers)) == [2]
    with pytest.raises(RingTimeout):
        open_pair(ring, 3)


def test_a_full_process_table_is_a_clear_error(new_ring):
    ring = new_ring()
    for number in range(63):
        ring.register("renderer", f"number {number}")
    with pytest.raises(PolygenError, match=r"renderer 'one more' cannot join: all 64 rows .* start fewer processes"):
        ring.register("renderer", "one more")
    assert ring.check() == []


def test_a_full_ring_makes_room_for_the_inserts_that_the_limiter_waits_for(new_ring):
    """Half a sample per insert: most groups must go without ever having been drawn."""
    ring = new_ring(slots=4, samples_per_insert=0.5, error_buffer=2.0)
    for task in range(2):
        open_plain(ring, task)
    render(ring)
    for step in range(2):
        drawn(ring, step, 1)
    with pytest.raises(RingTimeout, match="rate limiter holds it back"):
        ring.draw(DrawRequest(2, 1, 0), 0.0)
    opened = []

    def producers() -> bool:  # called while the draw waits
        opened.append(open_plain(ring, 2 + len(opened)))
        render(ring)
        return len(opened) > 9

    ring.release(ring.draw(DrawRequest(2, 1, 0), 60.0, producers))
    assert 1 <= len(opened) <= 2
    assert ring.stats().evicted == len(opened)
