"""The batches of an epoch of captions with hard negatives hold the pairs, singles and leftovers that they should.

Expected numbers follow from N captions, B texts and k = int(p B) pairs a batch alone: a batch takes B - k captions and
leaves B - 2 k sides, and of either sort only whole batches are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polygen_stream.schedule.co_occurrence import EpochBatch, epoch_batches

Side = tuple[int, bool]  # a caption, and whether its T- is meant
SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.one_of(st.floats(0.0, 0.5), st.sampled_from([0.0, 0.125, 0.25, 1 / 3, 0.4875, 0.5]))


def epoch(captions: int, texts: int, share: float | Callable[[float], float], seed: int = 0) -> list[EpochBatch]:
    return epoch_batches(captions, texts, share if callable(share) else lambda _: share, np.random.default_rng(seed))


def sides(batch: EpochBatch) -> list[Side]:
    """Every text of a batch."""
    shown = [(int(caption), bool(negative)) for caption, negative in zip(batch.singles, batch.negative, strict=True)]
    for caption in batch.pairs:
        shown += [(int(caption), False), (int(caption), True)]
    return shown


def values(batches: list[EpochBatch]) -> list[tuple]:
    return [(b.singles.tolist(), b.negative.tolist(), b.pairs.tolist(), b.share) for b in batches]


def pairs_met(batch: EpochBatch) -> int:
    """Captions of which both sides are in the batch, found by looking at all of its texts."""
    shown = sides(batch)
    return sum((caption, False) in shown for caption, negative in shown if negative)


@given(captions=st.integers(1, 90), texts=st.integers(1, 17), share=SHARES, seed=SEEDS)
@example(captions=7, texts=8, share=0.0, seed=0)  # too few for a batch
@example(captions=8, texts=8, share=0.0, seed=0)
@example(captions=4, texts=8, share=0.5, seed=0)
@settings(max_examples=150, deadline=None)
def test_batches_have_the_numbers_and_every_side_comes_once(captions, texts, share, seed):
    k = int(share * texts)
    first, left_captions = divmod(captions, texts - k)
    second, left_sides = divmod(first * (texts - 2 * k), texts)
    batches = epoch(captions, texts, share, seed)
    assert len(batches) == first + second
    assert Counter(len(batch.pairs) for batch in batches) == Counter({k: first}) + Counter({0: second})
    shown = Counter()
    for batch in batches:
        assert len(batch.singles) == len(batch.negative) == texts - 2 * len(batch.pairs)
        assert len(sides(batch)) == texts
        in_batch = [*batch.singles.tolist(), *batch.pairs.tolist()]
        assert len(set(in_batch)) == len(in_batch), "a caption comes twice"
        assert all(0 <= caption < captions for caption in in_batch)
        assert pairs_met(batch) == len(batch.pairs)
        assert (batch.singles.dtype, batch.negative.dtype, batch.pairs.dtype) == (np.int64, np.bool_, np.int64)
        shown.update(sides(batch))
    assert set(shown.values()) <= {1}
    sides_of = Counter(caption for caption, _ in shown)
    assert sum(sides_of[caption] == 0 for caption in range(captions)) == left_captions < texts - k
    assert sum(sides_of[caption] == 1 for caption in range(captions)) == left_sides < texts
    negatives = sum(negative for _, negative in shown)
    assert abs(2 * negatives - len(shown)) <= left_sides, "hard negatives are half up to the sides not shown"


@given(captions=st.integers(1, 90), texts=st.integers(2, 17), share=st.floats(0.01, 0.5), seed=SEEDS)
@settings(max_examples=100, deadline=None)
def test_leftovers_are_the_sides_that_singles_did_not_show(captions, texts, share, seed):
    batches = epoch(captions, texts, share, seed)
    assert {batch.share for batch in batches} <= {share, 0.0}
    first = [batch for batch in batches if batch.share == share]
    second = [batch for batch in batches if batch.share == 0]
    assert all(len(batch.pairs) == int(share * texts) for batch in first)
    others = {(caption, not negative) for batch in first for caption, negative in sides(batch)}
    others -= {side for batch in first for side in sides(batch)}
    for batch in second:
        assert len(batch.pairs) == 0
        assert set(sides(batch)) <= others


@given(captions=st.integers(1, 60), half=st.integers(1, 9), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_at_one_half_every_negative_meets_its_caption_and_nothing_is_left_over(captions, half, seed):
    batches = epoch(captions, 2 * half, 0.5, seed)
    assert len(batches) == captions // half
    for batch in batches:
        assert (len(batch.singles), batch.share) == (0, 0.5)
        assert pairs_met(batch) == half


@given(captions=st.integers(1, 60), texts=st.integers(1, 17), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_at_zero_no_negative_meets_its_caption_and_all_sides_of_taken_captions_come(captions, texts, seed):
    batches = epoch(captions, texts, 0.0, seed)
    assert [pairs_met(batch) for batch in batches] == [0] * (2 * (captions // texts))
    shown = {side for batch in batches for side in sides(batch)}
    assert len(shown) == 2 * texts * (captions // texts)
    assert all((caption, not negative) in shown for caption, negative in shown)


def test_the_coin_is_fair_and_tossed_for_each_single():
    """Each bound is five standard deviations of fair and independent coins."""
    epochs = [epoch(60, 8, 0.25, seed) for seed in range(400)]
    first = [batch.negative for batches in epochs for batch in batches if batch.share]
    assert len(first) == 400 * 10 and {len(coins) for coins in first} == {4}
    assert abs(sum(coins.sum() for coins in first) - 8000) < 5 * np.sqrt(16000 / 4)
    alike = sum(a == b for coins in first for a, b in pairwise(coins))
    assert abs(alike - 6000) < 5 * np.sqrt(12000 / 4)
    spread = np.mean([(coins.sum() - 2) ** 2 for coins in first])  # 1, with a variance of 1.5
    assert abs(spread - 1) < 5 * np.sqrt(1.5 / 4000)
    tosses, heads = Counter(), Counter()
    for batches in epochs:
        for batch in batches:
            if batch.share:
                tosses.update(batch.singles.tolist())
                heads.update(batch.singles[batch.negative].tolist())
    for caption in range(60):
        assert abs(heads[caption] - tosses[caption] / 2) < 5 * np.sqrt(tosses[caption] / 4)


def test_each_caption_is_as_likely_a_pair_or_left_out_as_any_other():
    """20 captions, 3 batches of 6: 6 are in pairs, 2 in no batch. Bounds are five standard deviations."""
    paired, taken = Counter(), Counter()
    for seed in range(2000):
        for batch in epoch(20, 8, 0.25, seed):
            if batch.share:
                paired.update(batch.pairs.tolist())
                taken.update([*batch.pairs.tolist(), *batch.singles.tolist()])
    for caption in range(20):
        assert abs(paired[caption] - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)
        assert abs(taken[caption] - 1800) < 5 * np.sqrt(2000 * 0.9 * 0.1)


def test_leftovers_are_shuffled_before_they_are_cut():
    """Sides of one batch do not stay together: a leftover batch has them from four batches of ten or more."""
    for seed in range(50):
        batches = epoch(600, 8, 0.25, seed)
        came_from = {
            int(caption): number
            for number, batch in enumerate(b for b in batches if b.share)
            for caption in batch.singles
        }
        origins = [len({came_from[int(c)] for c in batch.singles}) for batch in batches if not batch.share]
        assert len(origins) == 50
        assert np.mean(origins) > 7  # 7.87 of 8 if all 400 sides are alike


def test_leftover_batches_are_spread_over_the_whole_epoch():
    """5 of 15 batches, each place as likely as any other: bounds are five standard deviations of 1/3 over seeds."""
    seeds, at = 1500, np.zeros(15)
    ends, together = 0, 0
    for seed in range(seeds):
        left_over = np.array([batch.share == 0 for batch in epoch(60, 8, 0.25, seed)])
        assert left_over.sum() == 5
        at += left_over
        ends += bool(left_over[-5:].all())
        together += int((left_over[1:] & left_over[:-1]).sum())
    assert np.abs(at / seeds - 1 / 3).max() < 5 * np.sqrt(2 / 9 / seeds)
    positions = (at * np.arange(15)).sum() / at.sum()
    assert abs(positions - 7) < 0.25  # the middle; one position has a deviation of 4.3, the mean of 7500 of 0.05
    assert ends <= 5  # 1 of 3003 if all orders are alike
    assert abs(together / seeds - 14 * (5 * 4) / (15 * 14)) < 0.15  # neighbours in the epoch are no more than chance


@pytest.mark.parametrize("texts", [8, 16, 33])
def test_a_share_that_moves_is_followed_batch_by_batch(texts):
    captions = 100 * texts
    asked: list[tuple[float, float]] = []

    def share(behind: float) -> float:
        asked.append((behind, 0.02 + 0.48 * behind))
        return asked[-1][1]

    batches = epoch(captions, texts, share, seed=3)
    behind = [part for part, _ in asked]
    assert behind[0] == 0 and all(a < b for a, b in pairwise(behind)) and behind[-1] < 1
    first, second = ([batch for batch in batches if (batch.share > 0) is wanted] for wanted in (True, False))
    assert len(asked) - len(first) in (0, 1)  # the last question may be about a batch that would not be full
    assert [batch.share for batch in first] == [p for _, p in asked[: len(first)]], "they come in their order"
    assert [len(batch.pairs) for batch in first] == [int(p * texts) for _, p in asked[: len(first)]]
    assert all(len(batch.pairs) == 0 and batch.share == 0 for batch in second)
    assert behind[len(first) - 1] > 1 - 2 * texts / captions, "the share moves over the whole epoch"
    assert len(first[-1].pairs) >= int(0.48 * texts)
    shown = Counter(side for batch in batches for side in sides(batch))
    assert set(shown.values()) == {1}
    sides_of = Counter(caption for caption, _ in shown)
    assert sum(sides_of[caption] == 0 for caption in range(captions)) < texts - len(first[-1].pairs)
    assert sum(sides_of[caption] == 1 for caption in range(captions)) < texts
    assert sum(pairs_met(batch) for batch in batches) == sum(len(batch.pairs) for batch in first)


@given(captions=st.integers(30, 90), texts=st.integers(2, 12), share=st.floats(0.0, 0.4), seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_generator_alone_decides_the_epoch(captions, texts, share, seed):
    assert values(epoch(captions, texts, share, seed)) == values(epoch(captions, texts, share, seed))
    random = np.random.default_rng(seed)
    one, next_one = (epoch_batches(captions, texts, lambda _: share, random) for _ in range(2))
    assert values(one) != values(next_one)
