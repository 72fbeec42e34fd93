"""Which groups are ready decides a draw: not when they came, who made them, how often that failed, where they lie."""

from __future__ import annotations

import os
import random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_rings import open_pair, open_plain, pictures, small_spec

from polygen_stream.ring import DrawnGroup, DrawRequest, Ring, RingTimeout

CAPTIONS = st.dictionaries(  # task -> number of its caption (some coincide), whether it is a pair
    st.integers(0, 10**15), st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=14
)


def history(captions: dict[int, tuple[int, bool]], chance: random.Random, producers: int) -> Ring:
    """A ring in which these groups got ready in an order, and by hands, that only `chance` knows."""
    ring = Ring.create(small_spec(slots=64, members=4, max_retries=50))
    hands = [Ring.attach(os.dup(ring.fd)) for _ in range(producers)]
    for number, hand in enumerate([ring, *hands]):
        hand.register("trainer" if hand is ring else "renderer", str(number))
    to_open, held = list(captions), []
    missing = sum(4 if pair else 2 for _, pair in captions.values())
    chance.shuffle(to_open)
    while missing:
        hand = chance.choice(hands)
        what = chance.random()
        if what < 0.3 and to_open:
            number, pair = captions[task := to_open.pop()]
            (open_pair if pair else open_plain)(hand, task, f"caption {number}")
        elif what < 0.6:
            held += [(hand, claim) for claim in hand.claim([chance.randrange(2)], chance.randrange(1, 5))]
        elif held:
            hand, claim = held.pop(chance.randrange(len(held)))
            if chance.random() < 0.2:
                hand.fail([claim], "another try")
            else:
                missing -= hand.commit([claim], pictures([claim])) == [True]
    for hand in hands:
        hand.close()
    return ring


def batches(ring: Ring, wishes: list[tuple[int, int]]) -> list[list[tuple]]:
    """What a trainer sees of a few draws; a draw that cannot be filled is an empty batch."""
    seen = []
    for step, (plain, pair) in enumerate(wishes):
        try:
            draw = ring.draw(DrawRequest(step, plain, pair), 0.0)
        except RingTimeout:
            seen.append([])
            continue
        seen.append([describe(ring, group) for group in draw.groups])
        ring.release(draw)
    return seen


def describe(ring: Ring, group: DrawnGroup) -> tuple:
    pixels = ring.read(group.positive_slots + group.negative_slots).tobytes()
    return group.task_id, group.kind, group.caption, group.negative, group.times_sampled, pixels


@settings(max_examples=15, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    captions=CAPTIONS,
    wishes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=3, max_size=6),
    seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_draws_are_the_same_for_any_history_of_the_same_groups(captions, wishes, seeds):
    seen = []
    for seed, producers in zip(seeds, (1, 3), strict=True):
        ring = history(captions, random.Random(seed), producers)
        assert len(ring.groups_snapshot(99)) == len(captions)
        seen.append(batches(ring, wishes))
        assert ring.check() == []
        ring.close()
    assert seen[0] == seen[1]
    assert {len(batch) for batch in seen[0]} <= {0, *(plain + pair for plain, pair in wishes)}


def test_histories_differ_in_everything_that_must_not_matter():
    """So that the test above means something: rows, slots, claims and makers of the same groups are different."""
    captions = {task: (task, task % 3 == 0) for task in range(12)}
    first, second = (history(captions, random.Random(seed), producers) for seed, producers in ((1, 1), (2, 3)))
    rows = [[(g.row, g.positive_slots) for g in ring.groups_snapshot(99)] for ring in (first, second)]
    assert all(one != other for one, other in zip(*rows, strict=True))
    assert first.stats().retries != second.stats().retries
    assert [len(ring.stats().processes) for ring in (first, second)] == [2, 4]
    wishes = [(3, 1)] * 6
    seen = batches(first, wishes)
    assert seen == batches(second, wishes)
    assert all(seen)
    first.close()
    second.close()
