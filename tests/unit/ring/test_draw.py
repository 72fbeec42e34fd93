from __future__ import annotations

import os
import random

import numpy as np
import pytest
from small_rings import open_pair, open_plain, render, small_spec, tasks

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import DrawRequest, Kind, Ring, RingExhausted, RingTimeout, WaitStopped


def filled(new_ring, order: list[int], **changes) -> Ring:
    """16 groups, opened in `order` and rendered in another order; every fourth is a pair."""
    ring = new_ring(slots=64, **changes)
    for task in order:
        (open_pair if task % 4 == 0 else open_plain)(ring, task)
    generators = [0, 1]
    random.Random(order[0]).shuffle(generators)
    for generator in generators:
        render(ring, (generator,))
    return ring


def test_draws_do_not_depend_on_the_order_of_arrival(new_ring):
    orders = [list(range(16)), list(range(15, -1, -1)), random.Random(3).sample(range(16), 16)]
    histories = []
    for order in orders:
        ring, history = filled(new_ring, order), []
        for step in range(6):
            draw = ring.draw(DrawRequest(step, 5, 2), 0.0)
            history.append([(group.task_id, group.kind, group.times_sampled) for group in draw.groups])
            ring.release(draw)
        histories.append(history)
    assert histories[0] == histories[1] == histories[2]


def test_draws_depend_on_seed_and_step(new_ring):
    first = tasks(filled(new_ring, list(range(16)), seed=1).draw(DrawRequest(0, 8, 0), 0.0))
    assert first != tasks(filled(new_ring, list(range(16)), seed=2).draw(DrawRequest(0, 8, 0), 0.0))
    assert first != tasks(filled(new_ring, list(range(16)), seed=1).draw(DrawRequest(1, 8, 0), 0.0))


def test_reuse_spreads_evenly(new_ring):
    ring = filled(new_ring, list(range(16)))
    for step in range(13):
        ring.release(ring.draw(DrawRequest(step, 5, 3), 0.0))
    times = {
        kind: {g.times_sampled for g in ring.groups_snapshot(16) if g.kind is kind} for kind in (Kind.PLAIN, Kind.PAIR)
    }
    assert times == {Kind.PLAIN: {5, 6}, Kind.PAIR: {9, 10}}  # 65 draws of 12 groups, 39 of 4
    assert (ring.stats().draws, ring.stats().samples, ring.stats().mean_reuse) == (13, 104, 6.5)


def test_new_captions_join_the_old_ones_and_do_not_crowd_the_batches(new_ring):
    """A full ring with a steady flow, two new groups a step and batches of eight: each is drawn once a pass."""
    ring = new_ring(slots=64, groups=32)
    drawn: dict[int, list[int]] = {}
    tasks_opened = iter(range(10_000))
    for _ in range(32):
        open_plain(ring, next(tasks_opened))
        render(ring)
    for step in range(60):
        draw = ring.draw(DrawRequest(step, 8, 0), 0.0)
        for task in tasks(draw):
            drawn.setdefault(task, []).append(step)
        ring.release(draw)
        for _ in range(2):
            open_plain(ring, next(tasks_opened))  # evicts one that was drawn
        render(ring)
    lived = {task: steps for task, steps in drawn.items() if 32 <= task < 90}  # came and went within the run
    gaps = np.concatenate([np.diff(steps) for steps in lived.values()])
    assert gaps.mean() == pytest.approx(32 / 8, rel=0.15)  # a pass over the ring is four steps
    assert (gaps == 1).mean() < 0.1  # at the seam of two passes
    assert len(lived) == 58 and {len(steps) for steps in lived.values()} <= {2, 3, 4, 5, 6}


def test_pairs_serve_plain_demand_only_when_plain_groups_are_short(new_ring):
    ring = filled(new_ring, list(range(16)))
    assert all(task % 4 for task in tasks(ring.draw(DrawRequest(0, 12, 0), 0.0)))


def test_no_caption_comes_twice_in_a_batch(new_ring):
    ring = new_ring(slots=64)
    for task in range(10):
        open_plain(ring, task, caption=f"caption {task % 5}")
    render(ring)
    for step in range(8):
        draw = ring.draw(DrawRequest(step, 5, 0), 0.0)
        assert len({group.caption for group in draw.groups}) == 5
        ring.release(draw)
    with pytest.raises(RingTimeout, match="5 of 6 PLAIN are ready"):
        ring.draw(DrawRequest(9, 6, 0), 0.0)


def test_a_negative_caption_counts_as_a_caption_of_the_batch(new_ring):
    ring = new_ring()
    open_pair(ring, 0, caption="a red cup", negative="a blue cup")
    open_plain(ring, 1, caption="a blue cup")
    open_plain(ring, 2, caption="a green cup")
    render(ring)
    draw = ring.draw(DrawRequest(0, 1, 1), 0.0)
    assert tasks(draw) == [2, 0]
    ring.release(draw)
    assert sorted(tasks(ring.draw(DrawRequest(0, 3, 0), 0.0))) == [0, 1, 2]  # as PLAIN its negative is not in the batch


def test_plain_demand_is_filled_by_pairs_without_their_negatives(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    open_pair(ring, 1)
    open_pair(ring, 2)
    render(ring)
    draw = ring.draw(DrawRequest(0, 2, 1), 0.0)
    plain, filler, pair = draw.groups
    assert [group.kind for group in draw.groups] == [Kind.PLAIN, Kind.PLAIN, Kind.PAIR]
    assert (plain.task_id, plain.negative) == (0, None)
    assert {filler.task_id, pair.task_id} == {1, 2}
    assert (filler.negative, filler.negative_slots, filler.negative_generators) == (None, (), ())
    assert pair.negative == f"negative {pair.task_id}"
    assert pair.negative_generators == (0, 1)
    assert len(pair.positive_slots) == len(pair.negative_slots) == 2


def test_a_draw_takes_all_or_nothing(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    with pytest.raises(RingTimeout):
        ring.draw(DrawRequest(0, 2, 0), 0.0)
    stats = ring.stats()
    assert (stats.draws, stats.samples, stats.groups["plain"]["leased"]) == (0, 0, 0)
    assert ring.groups_snapshot(1)[0].times_sampled == 0


def test_empty_ring_deadline_names_the_captioner(new_ring):
    ring = new_ring()
    ring.register("captioner", "words")
    ring.heartbeat("thinking")
    with pytest.raises(RingTimeout) as caught:
        ring.draw(DrawRequest(12, 2, 1), 0.05)
    text = str(caught.value)
    assert "step 12 waited 0." in text
    assert "0 of ring.min_fill 1 groups are complete" in text
    assert "no group is open; waiting for captioner 'words' (pid " in text


def test_starved_draw_names_kind_generator_and_process(new_ring):
    ring = new_ring()
    ring.register("renderer", "painter-two")
    open_plain(ring, 0)
    render(ring)
    open_pair(ring, 1)
    render(ring, (0,))
    ring.claim([1], 1)
    ring.heartbeat("rendering 1 image")
    with pytest.raises(RingTimeout) as caught:
        ring.draw(DrawRequest(3, 0, 1), 0.0)
    text = str(caught.value)
    assert "0 of 1 PAIR are ready" in text
    assert "generator 'two' lags with 2 members (1 being written)" in text
    assert "waiting for renderer 'painter-two' (pid " in text


def test_min_fill_holds_the_first_draw_back_but_not_later_ones(new_ring):
    ring = new_ring(min_fill=3, slots=6, max_times_sampled=1)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    with pytest.raises(RingTimeout, match=r"2 of ring.min_fill 3"):
        ring.draw(DrawRequest(0, 1, 0), 0.0)
    open_plain(ring, 2)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
    open_plain(ring, 3)  # evicts: two complete groups are left
    open_plain(ring, 4)
    ring.release(ring.draw(DrawRequest(1, 1, 0), 0.0))


def test_reuse_limit_is_kept(new_ring):
    ring = new_ring(max_times_sampled=2)
    open_plain(ring, 0)
    render(ring)
    for step in range(2):
        ring.release(ring.draw(DrawRequest(step, 1, 0), 0.0))
    with pytest.raises(RingTimeout):
        ring.draw(DrawRequest(2, 1, 0), 0.0)
    assert ring.stats().mean_reuse == 2.0


def test_samples_per_insert_window_holds_both_sides(new_ring):
    ring = new_ring(slots=64, samples_per_insert=2.0, error_buffer=3.0, min_fill=2)
    for task in range(3):  # centre 4, window 1 .. 7: a fourth group would make the difference 8
        open_plain(ring, task)
    with pytest.raises(RingTimeout, match="rate limiter holds it back"):
        open_plain(ring, 3)
    render(ring)
    for step in range(5):  # 6 - 5 = 1 is the lower edge
        ring.release(ring.draw(DrawRequest(step, 1, 0), 0.0))
    with pytest.raises(RingTimeout, match="rate limiter holds it back"):
        ring.draw(DrawRequest(5, 1, 0), 0.0)
    open_plain(ring, 3)
    render(ring)
    ring.release(ring.draw(DrawRequest(5, 1, 0), 0.0))


def test_a_batch_wider_than_the_limiter_window_is_refused_with_the_arithmetic(new_ring):
    ring = new_ring(samples_per_insert=2.0, error_buffer=3.0)
    with pytest.raises(UserError, match=r"window of 8 .* = 6; raise ring.error_buffer to 4"):
        ring.draw(DrawRequest(0, 6, 0), 0.0)


def test_the_limiter_lets_go_when_production_is_over(new_ring):
    ring = new_ring(samples_per_insert=1.0, error_buffer=2.0)
    open_plain(ring, 0)
    render(ring)
    ring.finish_opening()
    for step in range(9):
        ring.release(ring.draw(DrawRequest(step, 1, 0), 0.0))


def test_a_draw_that_can_never_be_filled_fails_at_once(new_ring):
    ring = new_ring(max_times_sampled=1)
    open_plain(ring, 0)
    ring.finish_opening()
    with pytest.raises(RingTimeout):  # one member is still to come
        ring.draw(DrawRequest(0, 1, 0), 0.0)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 1, 0), 0.0))
    with pytest.raises(RingExhausted, match="production is over"):
        ring.draw(DrawRequest(1, 1, 0), 60.0)


def test_too_little_production_for_min_fill_fails_at_once(new_ring):
    ring = new_ring(min_fill=2)
    open_plain(ring, 0)
    render(ring)
    ring.finish_opening()
    with pytest.raises(RingExhausted, match=r"ring\.min_fill is 2"):
        ring.draw(DrawRequest(0, 1, 0), 60.0)


def test_a_waiting_draw_can_be_stopped_and_keeps_its_heartbeat(new_ring):
    ring = new_ring()
    calls = []

    def stop() -> bool:
        calls.append(ring.stats().processes[0])
        return len(calls) == 3

    with pytest.raises(WaitStopped):
        ring.draw(DrawRequest(0, 1, 0), 60.0, stop)
    assert calls[2]["doing"] == "waiting to draw 1 plain + 0 pair"
    assert calls[2]["heartbeat_age_s"] < 1.0


def test_release_is_once_and_by_the_drawer(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    draw, again = ring.draw(DrawRequest(0, 1, 0), 0.0), ring.draw(DrawRequest(1, 1, 0), 0.0)
    assert ring.stats().groups["plain"]["leased"] == 1
    ring.release(draw)
    assert ring.stats().groups["plain"]["leased"] == 1  # still leased by the second draw
    with pytest.raises(ValueError, match="released twice"):
        ring.release(draw)
    ring.release(again)
    assert ring.stats().groups["plain"]["leased"] == 0
    assert ring.check() == []


def test_a_draw_of_somebody_else_cannot_be_released_and_ours_stays_ours(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    other = Ring.attach(os.dup(ring.fd))
    other.register("trainer", "other")
    mine, theirs = (
        ring.draw(DrawRequest(0, 1, 0), 0.0),
        other.draw(DrawRequest(1, 1, 0), 0.0),
    )  # both are the first draw of their process
    with pytest.raises(ValueError, match="not leased by this process"):
        ring.release(theirs)
    ring.release(mine)
    other.release(theirs)
    assert ring.stats().groups["plain"]["leased"] == 0
    other.close()


def test_using_the_ring_without_registering_is_refused():
    ring = Ring.create(small_spec())
    with pytest.raises(PolygenError, match="register"):
        ring.draw(DrawRequest(0, 1, 0), 0.0)
    with pytest.raises(PolygenError, match="register"):
        ring.claim([0], 1)
    ring.close()


def test_stats_add_up(new_ring):
    ring = new_ring(slots=64)
    open_plain(ring, 0)
    open_pair(ring, 1)
    render(ring, (0,))
    ring.set_step(41)
    ring.heartbeat("painting", waited_s=1.5, busy_s=0.5)
    ring.heartbeat("resting", waited_s=0.5)
    stats = ring.stats()
    assert stats.images_committed == {"one": 3, "two": 0}
    assert stats.backlog == {"one": 0, "two": 3}
    assert stats.groups == {
        "plain": {"open": 1, "complete": 0, "leased": 0},
        "pair": {"open": 1, "complete": 0, "leased": 0},
    }
    assert (stats.step, ring.step, stats.free_slots, stats.finished_opening) == (41, 41, 58, False)
    [process] = stats.processes
    assert (process["role"], process["doing"], process["alive"]) == ("test", "resting", True)
    assert (process["wait_s"], process["busy_s"]) == (2.0, 0.5)
    assert dict(stats)["draws"] == stats["draws"] == 0


def test_read_refuses_slots_outside_the_ring(new_ring):
    ring = new_ring()
    with pytest.raises(ValueError):
        ring.read([32])
    with pytest.raises(ValueError):
        ring.read([-1])
    assert ring.read([]).shape == (0, 4, 4, 3)
    assert ring.read([0]).dtype == np.uint8
