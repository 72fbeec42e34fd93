"""Delta_MTL against sums done by hand."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.delta_mtl import delta_mtl


def test_the_mean_of_relative_changes():
    total, terms = delta_mtl({"a": 0.6, "b": 0.1}, {"a": 0.5, "b": 0.2})
    assert terms == pytest.approx({"a": 20.0, "b": -50.0})
    assert total == pytest.approx(-15.0)


def test_a_task_without_a_baseline_does_not_count():
    assert delta_mtl({"a": 0.6, "other": 9.0}, {"a": 0.5})[0] == pytest.approx(20.0)


def test_a_missing_task_is_named():
    with pytest.raises(UserError, match="the baseline has b, the other scores have a"):
        delta_mtl({"a": 0.6}, {"a": 0.5, "b": 0.2})


def test_a_baseline_of_zero_is_refused():
    with pytest.raises(UserError, match=r"baseline of a is 0\.0"):
        delta_mtl({"a": 0.6}, {"a": 0.0})


def test_a_baseline_that_is_not_a_number_is_refused():
    with pytest.raises(UserError, match="baseline of a is nan"):
        delta_mtl({"a": 0.6}, {"a": float("nan")})
