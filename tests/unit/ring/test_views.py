"""A draw takes n of the images that exist of a text, all of them come equally often, and their order is random."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise, permutations
from math import gcd

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polygen_stream.ring.records import Polarity
from polygen_stream.ring.views import chosen_views

SEEDS = st.integers(0, 2**32 - 1)
TASKS = st.integers(0, 2**62)
POLARITIES = st.sampled_from(Polarity)
EXISTING = st.lists(st.booleans(), min_size=1, max_size=8)

# Chi-square, upper 0.01 %: a fair choice passes it 9999 times in 10000, and every choice here has a fixed seed.
FAIR = {5: 25.74, 9: 33.72, 23: 57.07}


def drawn(
    existing: list[bool], per_draw: int, turns: range, task: int = 5, seed: int = 1, polarity: int = 0
) -> list[list[int]]:
    """The images of consecutive draws of one text."""
    n = len(turns)
    views = np.tile(np.array(existing, bool), (n, 1))
    chosen = chosen_views(seed, polarity, np.full(n, task), np.array(turns, np.int64), views, per_draw)
    assert chosen.shape == views.shape and chosen.dtype == np.bool_
    return [np.flatnonzero(row).tolist() for row in chosen]


def of_tasks(tasks: range, turn: int, views: int, per_draw: int, seed: int = 1, polarity: int = 0) -> list[tuple]:
    """The images that one draw takes of each of many texts."""
    n = len(tasks)
    ids, turns = np.array(tasks, np.int64), np.full(n, turn)
    chosen = chosen_views(seed, polarity, ids, turns, np.ones((n, views), bool), per_draw)
    return [tuple(np.flatnonzero(row).tolist()) for row in chosen]


def orders(tasks: range, views: int, cycle: int = 0, **which: int) -> list[tuple[int, ...]]:
    """The order in which one image a draw comes, for each of many texts."""
    turns = [of_tasks(tasks, cycle * views + turn, views, 1, **which) for turn in range(views)]
    return [tuple(image for (image,) in images) for images in zip(*turns, strict=True)]


def unevenness(found: list, possible: list, degrees: int) -> float:
    """Chi-square of a choice among equally likely ones."""
    counts, expected = Counter(found), len(found) / len(possible)
    assert len(possible) == degrees + 1 and set(counts) <= set(possible)
    return sum((counts[choice] - expected) ** 2 / expected for choice in possible)


@given(EXISTING, st.integers(0, 10), st.integers(0, 40), TASKS, SEEDS, POLARITIES)
@example([False, False], 1, 0, 0, 0, 0)
@settings(max_examples=200, deadline=None)
def test_a_draw_takes_so_many_of_the_images_that_exist(existing, per_draw, turn, task, seed, polarity):
    there = {image for image, exists in enumerate(existing) if exists}
    [images] = drawn(existing, per_draw, range(turn, turn + 1), task, seed, polarity)
    assert set(images) <= there
    assert len(images) == (min(per_draw, len(there)) if per_draw else len(there))


@given(EXISTING, st.integers(1, 8), TASKS, SEEDS, POLARITIES)
@example([True] * 4, 2, 0, 0, 0)
@example([True] * 5, 2, 0, 0, 0)
@example([True] * 8, 7, 0, 0, 0)
@settings(max_examples=200, deadline=None)
def test_after_any_number_of_draws_no_image_came_twice_more_often(existing, per_draw, task, seed, polarity):
    """One order after the other: counts differ by at most 1 after every draw, by 0 after V / gcd(V, n) draws.

    So no image comes again before all have come, but for a draw at the border of two orders, which still takes n
    different ones.
    """
    there = [image for image, exists in enumerate(existing) if exists]
    total = len(there)
    if not total:
        return
    n = min(per_draw, total)
    cycle = total // gcd(total, n)
    counts = Counter()
    for turn, images in enumerate(drawn(existing, per_draw, range(3 * cycle), task, seed, polarity)):
        counts.update(images)
        assert max(counts[i] for i in there) - min(counts[i] for i in there) <= 1, f"after {turn + 1} draws"
        if (turn + 1) % cycle == 0:
            assert {counts[image] for image in there} == {(turn + 1) * n // total}


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 9), TASKS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_where_n_divides_the_images_a_pass_shows_each_once(per_draw, draws, cycle, task, seed):
    start = cycle * draws
    images = drawn([True] * (per_draw * draws), per_draw, range(start, start + draws), task, seed)
    assert sorted(image for batch in images for image in batch) == list(range(per_draw * draws))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_choice_for_a_text_does_not_depend_on_the_others_of_the_batch(data):
    width = data.draw(st.integers(1, 6))
    row = st.tuples(TASKS, st.integers(0, 20), st.lists(st.booleans(), min_size=width, max_size=width))
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    seed, polarity, per_draw = data.draw(SEEDS), data.draw(POLARITIES), data.draw(st.integers(0, 4))
    tasks, turns = (np.array([values[i] for values in rows], np.int64) for i in (0, 1))
    views = np.array([values[2] for values in rows])
    before = views.copy()
    together = chosen_views(seed, polarity, tasks, turns, views, per_draw)
    assert (views == before).all(), "the caller's array is not changed"
    for number, (task, turn, existing) in enumerate(rows):
        [alone] = drawn(existing, per_draw, range(turn, turn + 1), task, seed, polarity)
        assert np.flatnonzero(together[number]).tolist() == alone
    assert chosen_views(seed, polarity, tasks[:0], turns[:0], views[:0], per_draw).shape == (0, width)


@given(st.integers(0, 8), st.integers(0, 12), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_so_many_draws_take_as_many_different_images_as_they_can(total, turns, per_draw):
    images = {image for batch in drawn([True] * total, per_draw, range(turns)) for image in batch}
    assert len(images) == min(total, turns * (per_draw or total))


@pytest.mark.parametrize("cycle", [0, 1, 7])
@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_all_orders_of_the_images_are_equally_likely(seed, cycle):
    found = orders(range(3000), 4, cycle, seed=seed)
    assert unevenness(found, list(permutations(range(4))), 23) < FAIR[23]


@pytest.mark.parametrize("turn", range(8))  # turns 2 and 7 take images of two orders
def test_all_choices_of_two_among_five_are_equally_likely(turn):
    found = of_tasks(range(3000), turn, 5, 2)
    assert unevenness(found, list(combinations(range(5), 2)), 9) < FAIR[9]


def test_images_that_do_not_exist_leave_the_choice_fair():
    """4 of 7 images exist."""
    existing = np.array([False, True, True, False, True, False, True])
    tasks = np.arange(3000)
    chosen = chosen_views(1, Polarity.NEGATIVE, tasks, np.zeros_like(tasks), np.tile(existing, (3000, 1)), 2)
    found = [tuple(np.flatnonzero(row).tolist()) for row in chosen]
    assert unevenness(found, list(combinations((1, 2, 4, 6), 2)), 5) < FAIR[5]


def test_orders_of_seeds_polarities_tasks_and_cycles_have_nothing_to_do_with_each_other():
    """Two of 24 orders agree once in 24 times; the bound is five standard deviations."""
    texts = range(2400)
    base = orders(texts, 4)
    for other in (
        orders(texts, 4, seed=2),
        orders(texts, 4, polarity=1),
        orders(texts, 4, cycle=1),
        orders(range(1, 2401), 4),
        orders(range(2**40, 2**40 + 2400), 4),
    ):
        agree = sum(a == b for a, b in zip(base, other, strict=True))
        assert abs(agree - 100) < 5 * np.sqrt(2400 / 24 * 23 / 24)
    later = [orders(texts, 4, cycle) for cycle in range(6)]
    agree = sum(a == b for one, two in pairwise(later) for a, b in zip(one, two, strict=True))
    assert abs(agree - 500) < 5 * np.sqrt(12000 / 24 * 23 / 24)
