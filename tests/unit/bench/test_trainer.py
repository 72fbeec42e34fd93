"""Loops that take turns, the ratio of their steps, and the whole measurement on few small batches."""

from __future__ import annotations

import numpy as np
import pytest

from polygen_stream.bench.training.trainer import (
    FROM_PIXELS,
    NO_FEEDBACK,
    OUR_WAY,
    OURS,
    STOCK,
    Loop,
    bench_trainer,
    median_ratio,
)
from polygen_stream.bench.training.trainer_view import markdown


def test_loops_work_only_in_their_turn():
    done = []

    def body(name):
        def run(turn):
            for step in range(3):
                turn()
                done.append((name, step))
            turn()

        return run

    loops = [Loop(name, body(name), plain_attention=True) for name in "ab"]
    for loop in loops:
        loop.start()
    assert done == []
    for _ in range(3):
        assert all(loop.step() >= 0 for loop in loops)
    for loop in loops:
        loop.finish()
    assert done == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_a_loop_that_fails_says_so_at_its_step():
    def body(turn):
        turn()
        raise RuntimeError("no such layer")

    loop = Loop("broken", body, plain_attention=True)
    loop.start()
    with pytest.raises(RuntimeError, match="no such layer"):
        loop.step()


def test_the_ratio_is_paired():
    theirs = np.array([1.0, 2.0, 4.0, 8.0] * 25)
    found = median_ratio(1.5 * theirs, theirs)
    assert found == {"median": 1.5, "low": 1.5, "high": 1.5}
    noisy = median_ratio(theirs * np.linspace(0.9, 1.1, 100), theirs)
    assert noisy["low"] < noisy["median"] < noisy["high"] and noisy["median"] == pytest.approx(1.0)


@pytest.mark.extended
def test_every_loop_is_measured():
    result = bench_trainer("micro", 8, 10, 1, "cpu", say=lambda line: None)
    loops = [OURS, NO_FEEDBACK, STOCK, OUR_WAY, FROM_PIXELS]
    assert list(result["step_ms"]) == loops and min(result["step_ms"].values()) > 0
    assert list(result["ratio"]) == loops[1:]
    assert [line.split("|")[1].strip() for line in markdown(result).splitlines()[2:]] == loops
