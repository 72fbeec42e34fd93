"""Who renders where."""

from __future__ import annotations

import pytest

from polygen_stream.capacity.allocation import allocate

PAPER = {"sd15": 1.1, "sd2": 2.2, "sana": 3.8, "sdxl_turbo": 22.0}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 12, 40])
def test_an_allocation_is_close_to_the_best_that_any_division_could_be(count):
    found = allocate(PAPER, range(10, 10 + count))
    best = count / sum(1 / rate for rate in PAPER.values())
    assert best >= found.per_s > 0.95 * best - 1e-9
    for gpu in range(10, 10 + count):
        assert sum(share for (_, on), share in found.shares.items() if on == gpu) <= 1 + 1e-9
    for name, rate in PAPER.items():
        assert rate * sum(share for (each, _), share in found.shares.items() if each == name) == pytest.approx(
            found.per_s
        )
        assert len(found.gpus[name]) == len(set(found.gpus[name])) >= 1
