"""A draw takes some of the images of a text, and logs, snapshots and broadcasts keep which ones."""

from __future__ import annotations

from collections import defaultdict

import pytest
from ring_views import (
    ROOM,
    T_MINUS,
    T_PLUS,
    assert_each_image_comes_before_any_again,
    filled,
    images,
    open_views,
    seen,
    take,
)
from small_rings import render

from polygen_stream.ring import Draw, DrawRecord, DrawRequest, Kind, PinResult, Ring
from polygen_stream.ring.draw_log import DrawLog, read_draw_log
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot


@pytest.mark.parametrize(("views", "per_draw"), [(4, 1), (4, 2), (3, 1), (4, 4)])
def test_a_draw_takes_n_images_of_each_text_and_all_before_any_again(new_ring, views, per_draw):
    ring = new_ring(**ROOM, images_per_draw=per_draw)
    for task in range(12):
        open_views(ring, task, Kind.PAIR if task < 6 else Kind.PLAIN, views)
    render(ring)
    history = defaultdict(list)
    for step in range(24):  # PAIR groups serve PLAIN demand too, so that T- is drawn less often than T+
        for group in take(ring, DrawRequest(step, 8, 2)).groups:
            found = images(ring, group)
            wanted = {(group.task_id, 0), (group.task_id, 1)} if group.kind is Kind.PAIR else {(group.task_id, 0)}
            assert set(found) == wanted
            for text, shown in found.items():
                history[text].append(shown)
    assert_each_image_comes_before_any_again(history, views, per_draw)
    assert {len(history[task, 1]) < len(history[task, 0]) for task in range(6)} == {True}
    assert len(history) == 18 and ring.check() == []


@pytest.mark.parametrize("per_draw", [0, 4, 9])
def test_as_many_as_there_are_or_zero_takes_all(new_ring, per_draw):
    ring = filled(new_ring, range(4), range(4, 8), images_per_draw=per_draw)
    for step in range(3):
        for group in take(ring, DrawRequest(step, 4, 4)).groups:
            assert all(sorted(views) == [0, 1, 2, 3] for views in images(ring, group).values())


def test_failed_images_are_not_among_the_choices(new_ring):
    """Generator "two" failed: two of four images are left, one comes at a time."""
    ring = new_ring(**ROOM, images_per_draw=1, max_retries=0)
    for task in range(4):
        open_views(ring, task)
    while claims := ring.claim([1], 8):
        ring.fail(claims, "dark")
    render(ring)
    history = defaultdict(list)
    for step in range(4):
        for group in take(ring, DrawRequest(step, 0, 4)).groups:
            for text, shown in images(ring, group).items():
                history[text].append(shown)
    assert_each_image_comes_before_any_again(history, 2, 1)
    assert {view for draws in history.values() for (view,) in draws} == {0, 2}


def test_a_group_in_the_row_of_an_evicted_one_begins_anew(new_ring):
    ring = new_ring(slots=32, groups=4, members=8, max_open=4, images_per_draw=2, max_times_sampled=3)
    for first in range(0, 40, 4):
        for task in range(first, first + 4):
            open_views(ring, task)
        render(ring)
        history = defaultdict(list)
        for step in range(3):  # an odd number: the next ones would begin in the middle of a pass
            for group in take(ring, DrawRequest(step, 0, 4)).groups:
                for text, shown in images(ring, group).items():
                    history[text].append(shown)
        assert {task for task, _ in history} == set(range(first, first + 4))
        assert_each_image_comes_before_any_again(history, 4, 2)


def mixed_requests(ring: Ring, steps: range) -> list[tuple[Draw, list[tuple]]]:
    """Draws by coin with pairs; every third one is of the other sides of up to three groups of those before."""
    drawn, waiting = [], {}
    for step in steps:
        if step % 3 == 2:
            sides = [(row, generation, polarity) for (row, generation), polarity in waiting.items()]
            draw = ring.draw(DrawRequest(step, len(sides), 0, other_sides=sides), 0.0)
            assert all(ring.unpin(*group) for group in waiting)
            waiting = {}
        else:
            draw = ring.draw(DrawRequest(step, 4, 2, by_coin=True), 0.0)
            for group in draw.groups:
                if group.kind is not Kind.PAIR and group.has_negative and len(waiting) < 3:
                    assert ring.pin(group.row, group.generation) is PinResult.PINNED
                    waiting[group.row, group.generation] = T_PLUS if group.kind is Kind.NEGATIVE else T_MINUS
        drawn.append((draw, seen(ring, draw.groups)))
        ring.release(draw)
    return drawn


def replay_of(record: DrawRecord) -> DrawRequest:
    pairs = record.kinds.count(Kind.PAIR)
    return DrawRequest(record.step, len(record.kinds) - pairs, pairs, exactly=record)


def test_a_log_with_turns_replays_to_the_same_texts_and_images(new_ring, tmp_path):
    ring = filled(new_ring, range(10), range(10, 14))
    drawn = mixed_requests(ring, range(24))
    assert {kind for draw, _ in drawn for kind in draw.record.kinds} == set(Kind)
    log = DrawLog(tmp_path / "log")
    for draw, _ in drawn:
        log.write(draw.record)
    log.close()
    records = list(read_draw_log(tmp_path / "log"))
    assert records == [draw.record for draw, _ in drawn]
    assert all(len(record.turns) == len(record.task_ids) for record in records)
    same = filled(new_ring, range(10), range(10, 14), mode="replay")
    other_rows = filled(new_ring, range(9, -1, -1), range(13, 9, -1), mode="replay")
    for record, (draw, expected) in zip(records, drawn, strict=True):
        request = replay_of(record)
        again = take(same, request)
        assert seen(same, again.groups) == expected and again.record == record
        assert [(g.positive_slots, g.negative_slots) for g in again.groups] == [
            (g.positive_slots, g.negative_slots) for g in draw.groups
        ]
        assert seen(other_rows, take(other_rows, request).groups) == expected
    begun_late = filled(new_ring, range(10), range(10, 14), mode="replay")
    for record, (_, expected) in list(zip(records, drawn, strict=True))[9:]:  # the record says which images, no count
        assert seen(begun_late, take(begun_late, replay_of(record)).groups) == expected


@pytest.mark.parametrize("mode", ["throughput", "deterministic"])
@pytest.mark.parametrize("payload", [True, False])
def test_a_restored_ring_goes_on_with_the_images_of_an_uninterrupted_one(new_ring, tmp_path, mode, payload):
    window = {"mode": mode, "window": 12, "min_fill": 12} if mode == "deterministic" else {}
    whole, cut = (filled(new_ring, range(12), **window) for _ in range(2))

    def batches(ring: Ring, steps: range) -> list[list[tuple]]:
        return [seen(ring, take(ring, DrawRequest(step, 4, 2, by_coin=True)).groups) for step in steps]

    expected = batches(whole, range(14))
    found = batches(cut, range(5))
    save_snapshot(cut, tmp_path / "ring", payload)
    second = restore_snapshot(tmp_path / "ring", cut.spec)
    second.register("test", "second life")
    render(second)
    found += batches(second, range(5, 14))
    assert found == expected
    assert second.check() == []
    second.close()


def test_a_deterministic_ring_chooses_images_by_the_step_alone(new_ring):
    """Without the draws before, a step has the same images; over consecutive steps each comes before any again."""
    window = {"mode": "deterministic", "window": 6, "min_fill": 6}
    one, other = filled(new_ring, range(6), **window), filled(new_ring, range(5, -1, -1), **window)
    history = defaultdict(list)
    for step in range(8):
        groups = take(one, DrawRequest(step, 0, 6)).groups
        for group in groups:
            for text, shown in images(one, group).items():
                history[text].append(shown)
        if step in (3, 6):
            assert seen(other, take(other, DrawRequest(step, 0, 6)).groups) == seen(one, groups)
    assert_each_image_comes_before_any_again(history, 4, 2)


@pytest.mark.parametrize("world", [2, 3])
def test_the_slices_of_a_broadcast_are_what_a_single_draw_gives(new_ring, world):
    shared, single = (filled(new_ring, range(10), range(10, 14)) for _ in range(2))
    for step in range(8):
        request = DrawRequest(step, 5, 2, by_coin=True)
        summary, _ = shared.broadcast(request, world, 0.0)
        draw = take(single, request)
        assert summary.record == draw.record
        expected = seen(single, draw.groups)
        for rank in range(world):
            part = shared.receive(step, rank, world, 0.0)
            assert seen(shared, part.groups) == expected[rank::world]
            assert part.record.turns == draw.record.turns[rank::world]
            assert part.record.kinds == draw.record.kinds[rank::world]
            shared.release(part)
    assert shared.check() == []
