"""Steps beside an evaluator at work and without, on few small batches."""

from __future__ import annotations

import psutil
import pytest

from polygen_stream.bench.training.evaluation import AT_WORK, CONTROLS, bench_evaluation
from polygen_stream.bench.training.evaluation_view import markdown


@pytest.mark.extended
def test_pairs_with_and_without_the_evaluator_are_measured():
    before = set(psutil.Process().children(recursive=True))  # those of the tests before this one
    result = bench_evaluation(32, 10, 1, say=lambda line: None)
    assert list(result["ratio"]) == list(result["step_ms"]) == [AT_WORK, *CONTROLS]
    assert result["evaluator_share"] > 0, "it was at work"
    assert all(0 < ratio["low"] <= ratio["median"] <= ratio["high"] for ratio in result["ratio"].values())
    assert [line.split("|")[1].strip() for line in markdown(result).splitlines()[2:5]] == [AT_WORK, *CONTROLS]
    assert set(psutil.Process().children(recursive=True)) <= before, "the evaluator is gone"
