"""How much a rank stages, and that it is enough."""

from __future__ import annotations

import pytest

from polygen_stream.train.staging import most_texts


def texts_of_rank(plain: int, pair: int, rank: int, ranks: int) -> int:
    """Texts of the groups rank, rank + ranks, ... of a batch: PLAIN first, then PAIR."""
    return sum(([1] * plain + [2] * pair)[rank::ranks])


@pytest.mark.parametrize("ranks", range(1, 9))
def test_no_rank_has_more_texts_than_it_has_buffers_for(ranks: int):
    for batch in range(2, 80):
        mixes = [(batch - 2 * pair, pair) for pair in range(batch // 2 + 1)]
        largest = max(texts_of_rank(*mix, rank, ranks) for mix in mixes for rank in range(ranks))
        assert largest <= most_texts(batch, ranks) <= batch // ranks + 3


def test_a_single_rank_has_buffers_for_the_whole_batch_and_one_of_eight_for_an_eighth():
    assert most_texts(1024, 1) == 1024
    assert most_texts(1024, 8) == 130
