"""Draws of groups that come late: by rounds alone they stay behind, with catch_up they make up for what they missed."""

from __future__ import annotations

import numpy as np
import pytest
from small_rings import small_spec

from polygen_stream.base.errors import UserError
from polygen_stream.ring import DrawRequest, GroupRequest, Kind, Member, Ring, RingTimeout
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.snapshot import save_snapshot

GROUPS, STEPS, BATCH = 240, 400, 12  # 20 draws of each group on average


def draws_of_a_run(catch_up: float, last_comes_at: float, known: bool = True):
    """Groups that come evenly until a share of the steps: draws of each, and of each batch the share of late groups.

    Late is a group that came after half of those that are there.
    """
    sizes = {"slots": GROUPS, "groups": GROUPS, "members": 1, "generators": ("one",), "max_open": 4}
    spec = small_spec(**sizes, catch_up=catch_up, expected_groups=GROUPS)
    ring = Ring.create(spec)
    ring.register("test", "test")
    draws, shares, there = np.zeros(GROUPS, int), [], 0
    image = np.zeros((1, *spec.image_shape), np.uint8)
    for step in range(STEPS):
        while there < min(GROUPS, 24 + step / (last_comes_at * STEPS) * (GROUPS - 24)):
            ring.open_groups([GroupRequest(there, Kind.PLAIN, f"caption {there}", None, [Member(0, 0, 0)])], 0.0)
            ring.commit(ring.claim([0], 1), image)
            there += 1
        draw = ring.draw(DrawRequest(step, BATCH, 0, steps_left=STEPS - step - 1 if known else None), 0.0)
        drawn = np.array([group.task_id for group in draw.groups])
        ring.release(draw)
        draws[drawn] += 1
        shares.append((drawn >= there / 2).mean())
    ring.close()
    return draws, np.array(shares)


def insert(ring: Ring, tasks: range) -> None:
    for task in tasks:
        ring.open_groups([GroupRequest(task, Kind.PLAIN, f"caption {task}", None, [Member(0, 0, 0)])], 0.0)
    commit(ring, len(tasks))


def commit(ring: Ring, images: int) -> None:
    while images > 0 and (claims := ring.claim([0], min(images, 4))):
        ring.commit(claims, np.zeros((len(claims), *ring.spec.image_shape), np.uint8))
        images -= len(claims)


def drawn(ring: Ring, steps: range, last: int) -> list[list[int]]:
    """Tasks of the batches of some steps."""
    batches = []
    for step in steps:
        draw = ring.draw(DrawRequest(step, 4, 0, steps_left=last - step), 0.0)
        ring.release(draw)
        batches.append([group.task_id for group in draw.groups])
    return batches


def test_captions_that_come_until_half_time_are_drawn_as_often_as_the_first():
    draws, _ = draws_of_a_run(8.0, 0.5)
    assert draws.sum() == STEPS * BATCH
    first, last = draws[:60].mean(), draws[-60:].mean()
    assert last == pytest.approx(first, rel=0.05), (first, last)
    assert draws.std() < 1 and draws.min() >= 14 and draws.max() <= 22  # 20 on average


def test_without_it_they_stay_behind():
    draws, _ = draws_of_a_run(1.0, 0.5)
    assert draws[-60:].mean() < 0.5 * draws[:60].mean() and draws.std() > 6


@pytest.mark.parametrize("catch_up", [2.0, 4.0])
def test_captions_that_come_to_the_end_are_drawn_more_and_no_batch_is_of_them_alone(catch_up):
    """The last of them comes at 90 % of the steps, with 40 batches to go."""
    once, _ = draws_of_a_run(1.0, 0.9)
    more, shares = draws_of_a_run(catch_up, 0.9)
    last = slice(-48, None)
    assert 1.2 * once[last].mean() < more[last].mean() < catch_up * once[last].mean()
    expected = catch_up * 0.5 / (1 + (catch_up - 1) * 0.5)  # half of the groups are late
    assert shares.mean() < expected
    # At any time of the run; five standard deviations of a mean of 20 batches, were each drawn independently.
    of_20 = shares.reshape(-1, 20).mean(axis=1)
    assert of_20.max() < expected + 5 * np.sqrt(expected * (1 - expected) / (20 * BATCH))
    assert (shares == 1).mean() < 0.06


def test_where_the_end_of_the_run_is_unknown_nobody_catches_up():
    draws, _ = draws_of_a_run(4.0, 0.5, known=False)
    assert (draws == draws_of_a_run(1.0, 0.5)[0]).all()


def test_groups_that_were_there_from_the_start_are_drawn_in_rounds(new_ring):
    ring = new_ring(catch_up=4.0, members=1, generators=("one",))
    for task in range(12):
        ring.open_group(task, Kind.PLAIN, f"caption {task}", None, [Member(0, 0, 0)], 0.0)
        ring.commit(ring.claim([0], 1), np.zeros((1, *ring.spec.image_shape), np.uint8))
    drawn: list[int] = []
    for step in range(9):
        draw = ring.draw(DrawRequest(step, 4, 0, steps_left=8 - step), 0.0)
        drawn += [group.task_id for group in draw.groups]
        ring.release(draw)
    for number in range(3):
        assert sorted(drawn[12 * number : 12 * number + 12]) == list(range(12))


def test_a_pair_catches_up_among_pairs(new_ring):
    ring = new_ring(slots=64, groups=24, members=2, generators=("one",), max_open=24, catch_up=4.0, expected_groups=16)

    def insert_both(tasks: range) -> None:
        for task in tasks:
            pair = task % 2 == 1
            members = [Member(0, polarity, 0) for polarity in range(1 + pair)]
            kind, negative = (Kind.PAIR, f"negative {task}") if pair else (Kind.PLAIN, None)
            ring.open_groups([GroupRequest(task, kind, f"caption {task}", negative, members)], 0.0)
        commit(ring, 100)

    draws = np.zeros(16, int)
    insert_both(range(8))
    for step in range(60):
        if step == 30:
            insert_both(range(8, 16))
        draw = ring.draw(DrawRequest(step, 2, 1, steps_left=59 - step), 0.0)
        ring.release(draw)
        draws[[group.task_id for group in draw.groups]] += 1
    plain, pair = draws[::2], draws[1::2]
    assert plain.sum() == 120 and pair.sum() == 60
    # Those that came at half time are up to 0.8 of each batch from then on; in rounds alone they would have a third.
    assert plain[4:].mean() > 0.6 * plain[:4].mean() and pair[4:].mean() > 0.6 * pair[:4].mean()


@pytest.mark.filterwarnings("error")
def test_a_ring_that_is_empty_or_has_pairs_alone_has_nobody_to_catch_up(new_ring):
    ring = new_ring(slots=16, groups=8, members=2, generators=("one",), catch_up=4.0)
    with pytest.raises(RingTimeout):
        ring.draw(DrawRequest(0, 2, 0, steps_left=9), 0.0)
    members = [Member(0, 0, 0), Member(0, 1, 0)]
    for task in range(4):
        ring.open_groups([GroupRequest(task, Kind.PAIR, f"caption {task}", f"negative {task}", members)], 0.0)
    commit(ring, 8)
    draw = ring.draw(DrawRequest(0, 2, 1, steps_left=9), 0.0)
    assert [group.kind for group in draw.groups] == [Kind.PLAIN, Kind.PLAIN, Kind.PAIR]
    ring.release(draw)


@pytest.mark.parametrize("payload", [True, False])
def test_a_restored_ring_draws_what_the_other_would_have_drawn(new_ring, tmp_path, payload):
    """How far each group is behind is in the snapshot. How many are expected may change."""
    spec = {"slots": 32, "groups": 32, "members": 1, "generators": ("one",), "max_open": 24, "catch_up": 3.0}

    ring = new_ring(**spec, expected_groups=24)
    insert(ring, range(8))
    drawn(ring, range(10), 29)
    insert(ring, range(8, 24))
    drawn(ring, range(10, 14), 29)
    save_snapshot(ring, tmp_path / "ring", payload)
    second = restore_snapshot(tmp_path / "ring", ring.spec)
    second.register("test", "second life")
    if not payload:
        commit(second, 24)
    expected = drawn(ring, range(14, 30), 29)
    assert drawn(second, range(14, 30), 29) == expected
    assert len({tuple(sorted(batch)) for batch in expected}) == 16
    second.close()
    restore_snapshot(tmp_path / "ring", small_spec(**spec, expected_groups=32)).close()


def test_less_than_once_is_refused():
    with pytest.raises(UserError, match=r"ring.catch_up is 0.5; it must be at least 1"):
        Ring.create(small_spec(catch_up=0.5))
