"""Draws by coin and of other sides take one text of a pair, T+ or T-, with the images of that text."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from ring_views import (
    ROOM,
    T_MINUS,
    T_PLUS,
    VIEWS,
    assert_each_image_comes_before_any_again,
    filled,
    images,
    open_views,
    seen,
    take,
)
from small_rings import open_pair, open_plain, pictures, render

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring import Draw, DrawRequest, Kind, Member, PinResult, Ring, RingTimeout
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot


def coins(ring: Ring, steps: int, plain: int = 16) -> dict[tuple[int, int], Kind]:
    """{(step, task): kind as drawn}."""
    draws = [take(ring, DrawRequest(step, plain, 0, by_coin=True)) for step in range(steps)]
    return {(draw.step, group.task_id): group.kind for draw in draws for group in draw.groups}


def test_a_coin_decides_which_text_of_a_pair_comes(new_ring):
    """1600 coins; bounds are five standard deviations."""
    ring, history = filled(new_ring), defaultdict(list)
    counts, by_task = Counter(), Counter()
    for step in range(100):
        draw = take(ring, DrawRequest(step, 16, 0, by_coin=True))
        assert sorted(draw.record.kinds) == list(draw.record.kinds), "PLAIN comes before NEGATIVE"
        for group in draw.groups:
            polarity = 1 if group.kind is Kind.NEGATIVE else 0
            assert group.caption == f"{('caption', 'negative')[polarity]} {group.task_id}"
            assert (group.negative, group.negative_slots, group.negative_generators) == (None, (), ())
            [(text, shown)] = images(ring, group).items()
            assert text == (group.task_id, polarity)
            history[text].append(shown)
            counts[group.kind] += 1
            by_task[group.task_id] += polarity
    assert set(counts) == {Kind.PLAIN, Kind.NEGATIVE}
    assert abs(counts[Kind.NEGATIVE] - 800) < 5 * np.sqrt(1600 / 4)
    assert all(abs(by_task[task] - 50) < 5 * np.sqrt(100 / 4) for task in range(16))
    assert_each_image_comes_before_any_again(history, VIEWS, 2)


@pytest.mark.parametrize("mode", ["throughput", "deterministic"])
def test_coins_are_a_function_of_seed_and_step(new_ring, mode):
    changes = {"mode": mode, "window": 16, "min_fill": 16} if mode == "deterministic" else {}
    first = coins(filled(new_ring, **changes), 20)
    assert first == coins(filled(new_ring, range(15, -1, -1), **changes), 20)
    other = coins(filled(new_ring, **changes, seed=8), 20)
    assert abs(sum(first[key] is other[key] for key in first) - 160) < 5 * np.sqrt(320 / 4)
    again = sum(first[step, task] is first[step + 1, task] for step in range(19) for task in range(16))
    assert abs(again - 152) < 5 * np.sqrt(304 / 4)


def test_no_text_comes_twice_in_a_batch_drawn_by_coin(new_ring):
    ring = new_ring()
    open_pair(ring, 0, caption="a red cup", negative="a blue cup")
    open_plain(ring, 1, caption="a blue cup")
    open_pair(ring, 2, caption="a green cup", negative="a red cup")
    open_plain(ring, 3)
    open_plain(ring, 4)
    render(ring)
    together = Counter()
    for step in range(60):
        draw = take(ring, DrawRequest(step, 3, 0, by_coin=True))
        assert len({group.caption for group in draw.groups}) == 3
        together.update((group.task_id, group.kind) for group in draw.groups)
    assert all(together[task, kind] for task in (0, 2) for kind in (Kind.PLAIN, Kind.NEGATIVE))


def test_pairs_drawn_with_their_negatives_know_no_coin(new_ring):
    ring = filled(new_ring, range(8), range(8, 16))
    for step in range(20):
        kinds = Counter()
        for group in take(ring, DrawRequest(step, 6, 3, by_coin=True)).groups:
            kinds[group.kind] += 1
            texts = [(group.task_id, 0), (group.task_id, 1)]
            assert (
                list(images(ring, group))
                == {Kind.PLAIN: texts[:1], Kind.NEGATIVE: texts[1:], Kind.PAIR: texts}[group.kind]
            )
            assert group.has_negative is (group.task_id < 8)
            assert group.has_negative or group.kind is Kind.PLAIN
        assert kinds[Kind.PAIR] == 3 and kinds.total() == 9


def render_without_negatives(ring: Ring, dark_tasks: range) -> None:
    """Renders all but the negatives of some tasks, which fail."""
    while claims := ring.claim([0, 1], 8):
        dark = [claim for claim in claims if claim.task_id in dark_tasks and claim.polarity == T_MINUS]
        kept = [claim for claim in claims if claim not in dark]
        ring.fail(dark, "dark")
        ring.commit(kept, pictures(kept) if kept else np.empty((0, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("mode", ["throughput", "deterministic"])
def test_a_pair_without_negative_images_is_drawn_for_its_caption_only(new_ring, mode):
    changes = {"mode": mode, "window": 6, "min_fill": 6} if mode == "deterministic" else {}
    ring = new_ring(**ROOM, **changes, max_retries=0)
    for task in range(6):
        open_views(ring, task)
    render_without_negatives(ring, range(3))
    drawn = coins(ring, 30, plain=6)
    assert {drawn[step, task] for step in range(30) for task in range(3)} == {Kind.PLAIN}
    assert {drawn[step, task] for step in range(30) for task in range(3, 6)} == {Kind.PLAIN, Kind.NEGATIVE}


def pinned_sides(ring: Ring, draw: Draw, count: int = 4) -> list[tuple[int, int, int]]:
    """Pins `count` groups of a draw and returns the sides that it did not show."""
    groups = draw.groups[:count]
    assert {ring.pin(group.row, group.generation) for group in groups} == {PinResult.PINNED}
    return [(g.row, g.generation, T_PLUS if g.kind is Kind.NEGATIVE else T_MINUS) for g in groups]


def test_other_sides_are_exactly_what_is_drawn(new_ring):
    ring = filled(new_ring)
    for step in range(0, 20, 2):
        draw = take(ring, DrawRequest(step, 16, 0, by_coin=True))
        groups = {group.row: group for group in draw.groups}
        mixed = [draw.groups[0], draw.groups[-1], draw.groups[7], draw.groups[8]]
        sides = pinned_sides(ring, Draw(step, tuple(mixed), 0.0, 0))
        again = take(ring, DrawRequest(step + 1, 4, 0, other_sides=sides))
        assert sorted((g.row, g.generation, int(g.kind is Kind.NEGATIVE)) for g in again.groups) == sorted(sides)
        assert list(again.record.kinds) == sorted(again.record.kinds), "PLAIN comes before NEGATIVE"
        for group in again.groups:
            polarity = int(group.kind is Kind.NEGATIVE)
            assert {group.kind, groups[group.row].kind} == {Kind.PLAIN, Kind.NEGATIVE}
            assert group.caption == f"{('caption', 'negative')[polarity]} {group.task_id}"
            assert list(images(ring, group)) == [(group.task_id, polarity)]
            assert (group.negative, group.negative_slots) == (None, ())
        for row, generation, _ in sides:
            assert ring.unpin(row, generation)
    assert ring.stats().pinned == 0 and ring.check() == []


def test_other_sides_leave_the_rounds_as_they_are(new_ring):
    """Draws in between do not change which captions the next draws take."""
    ring, undisturbed = filled(new_ring, range(12), range(12, 16)), filled(new_ring, range(12), range(12, 16))
    for step in range(20):
        request = DrawRequest(2 * step, 5, 1, by_coin=True)
        draw, expected = take(ring, request), take(undisturbed, request)
        assert (draw.record.task_ids, draw.record.kinds) == (expected.record.task_ids, expected.record.kinds)
        pairs = Draw(0, tuple(g for g in draw.groups if g.has_negative and g.kind is not Kind.PAIR), 0.0, 0)
        sides = pinned_sides(ring, pairs, 3)
        take(ring, DrawRequest(2 * step + 1, len(sides), 0, other_sides=sides))
        for row, generation, _ in sides:
            ring.unpin(row, generation)


def test_images_of_other_sides_go_on_where_draws_by_coin_stopped(new_ring):
    ring, history = filled(new_ring, images_per_draw=1), defaultdict(list)
    for step in range(0, 60, 2):
        draw = take(ring, DrawRequest(step, 16, 0, by_coin=True))
        sides = pinned_sides(ring, draw)
        again = take(ring, DrawRequest(step + 1, 4, 0, other_sides=sides))
        for group in (*draw.groups, *again.groups):
            [(text, shown)] = images(ring, group).items()
            history[text].append(shown)
        for row, generation, _ in sides:
            ring.unpin(row, generation)
    assert len(history) == 32
    assert_each_image_comes_before_any_again(history, VIEWS, 1)


def test_other_sides_come_although_their_groups_are_used_up(new_ring):
    ring = filled(new_ring, range(4), max_times_sampled=1)
    sides = pinned_sides(ring, take(ring, DrawRequest(0, 4, 0, by_coin=True)))
    again = take(ring, DrawRequest(1, 4, 0, other_sides=sides))
    assert sorted(group.task_id for group in again.groups) == [0, 1, 2, 3]


def test_groups_of_other_sides_have_to_be_pinned(new_ring):
    ring = filled(new_ring)
    before = take(ring, DrawRequest(0, 16, 0, by_coin=True))
    sides = pinned_sides(ring, before)
    not_pinned = (before.groups[9].row, before.groups[9].generation, T_PLUS)
    of_another = (sides[0][0], sides[0][1] + 1, sides[0][2])
    for wrong in (not_pinned, of_another):
        with pytest.raises(PolygenError):
            ring.draw(DrawRequest(1, 4, 0, other_sides=[*sides[:3], wrong]), 0.0)
    assert sum(counts["leased"] for counts in ring.stats().groups.values()) == 0
    assert ring.stats().draws == 1, "nothing was drawn"
    assert len(take(ring, DrawRequest(1, 4, 0, other_sides=sides)).groups) == 4
    ring.unpin(*sides[0][:2])
    with pytest.raises(PolygenError):
        ring.draw(DrawRequest(2, 4, 0, other_sides=sides), 0.0)
    assert ring.check() == []


@pytest.mark.parametrize(("plain", "pair"), [(3, 0), (5, 0), (4, 1)])
def test_other_sides_are_the_whole_batch(new_ring, plain, pair):
    ring = filled(new_ring)
    sides = pinned_sides(ring, take(ring, DrawRequest(0, 16, 0, by_coin=True)))
    with pytest.raises(ValueError):
        ring.draw(DrawRequest(1, plain, pair, other_sides=sides), 0.0)


def test_a_deterministic_ring_has_no_other_sides(new_ring):
    ring = filled(new_ring, mode="deterministic", window=16, min_fill=16)
    with pytest.raises(ValueError, match="deterministic"):
        ring.draw(DrawRequest(0, 2, 0, other_sides=[(0, 1, T_PLUS), (1, 1, T_MINUS)]), 0.0)


def test_other_sides_wait_for_images_that_are_rendered_again_and_show_t_plus_where_all_of_t_minus_failed(
    new_ring, tmp_path
):
    ring = filled(new_ring, range(4), max_retries=0)
    groups = take(ring, DrawRequest(0, 4, 0)).groups
    assert {ring.pin(group.row, group.generation) for group in groups} == {PinResult.PINNED}
    request = DrawRequest(1, 4, 0, other_sides=[(g.row, g.generation, T_MINUS) for g in groups])
    save_snapshot(ring, tmp_path / "ring", payload=False)
    second = restore_snapshot(tmp_path / "ring", ring.spec)
    second.register("test", "second life")
    with pytest.raises(RingTimeout):
        second.draw(request, 0.0)
    render_without_negatives(second, range(2))
    shown = {(g.task_id, g.kind, g.caption): tuple(images(second, g)) for g in take(second, request).groups}
    assert shown == {
        (0, Kind.PLAIN, "caption 0"): ((0, 0),),
        (1, Kind.PLAIN, "caption 1"): ((1, 0),),
        (2, Kind.NEGATIVE, "negative 2"): ((2, 1),),
        (3, Kind.NEGATIVE, "negative 3"): ((3, 1),),
    }
    second.close()


@pytest.mark.parametrize("world", [2, 3])
def test_a_broadcast_of_other_sides_is_that_draw(new_ring, world):
    shared, single = filled(new_ring), filled(new_ring)
    request = DrawRequest(0, 16, 0, by_coin=True)
    sides = pinned_sides(single, take(single, request))
    assert sides == pinned_sides(shared, take(shared, request))
    request = DrawRequest(1, 4, 0, other_sides=sides)
    summary, _ = shared.broadcast(request, world, 0.0)
    draw = take(single, request)
    assert summary.record == draw.record
    for rank in range(world):
        part = shared.receive(1, rank, world, 0.0)
        assert seen(shared, part.groups) == seen(single, draw.groups)[rank::world]
        shared.release(part)


def test_a_group_cannot_be_opened_as_a_negative_alone(new_ring):
    ring = new_ring()
    with pytest.raises(ValueError, match="NEGATIVE"):
        ring.open_group(0, Kind.NEGATIVE, "a red cup", "a blue cup", [Member(0, 0, 1), Member(0, 1, 2)], 0.0)
    assert (ring.stats().free_slots, ring.stats().groups_opened) == (32, 0)
