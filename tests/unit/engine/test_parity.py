"""The parity gate lets through what equals eager and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polygen_stream.engine.parity import ParityError, part_difference, picture_difference, side_by_side


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def test_the_worst_difference_is_reported_relative_to_large_values():
    small = {"out": torch.tensor([0.5, -0.25])}
    assert part_difference("unet", small, {"out": torch.tensor([0.5, -0.2505])}) == pytest.approx(5e-4, rel=1e-3)
    large = {"out": torch.tensor([100.0, 1.0])}
    assert part_difference("unet", large, {"out": torch.tensor([100.05, 1.0])}) == pytest.approx(5e-4, rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_part_that_is_not_finite_fails(value: float):
    with pytest.raises(ParityError, match="not finite"):
        part_difference("unet", {"out": torch.tensor([0.5])}, {"out": torch.tensor([value])})


def test_not_finite_fails_even_where_eager_is_not_finite():
    bad = {"out": torch.tensor([float("nan")])}
    with pytest.raises(ParityError, match="not finite"):
        part_difference("unet", bad, bad)


def test_another_shape_fails():
    with pytest.raises(ParityError, match=r"shape \[2\], eager has \[1\]"):
        part_difference("unet", {"out": torch.zeros(1)}, {"out": torch.zeros(2)})


def test_pictures_are_judged_by_the_worst_of_them():
    expected = pictures()
    got = expected.copy()
    got[1] = np.where(got[1] > 250, got[1] - 3, got[1] + 3)
    assert picture_difference(expected, got) == pytest.approx(3.0)


def test_pictures_that_are_not_eagers_are_no_reason_to_refuse():
    """Two good pictures of one caption, as half precision makes them after fifty steps."""
    assert picture_difference(pictures(), 255 - pictures()) > 50


@pytest.mark.parametrize(("grey", "told"), [(0, "black"), (128, "constant")])
def test_black_and_constant_pictures_fail_even_where_eager_makes_them(grey: int, told: str):
    same = pictures()
    same[2] = grey
    with pytest.raises(ParityError, match=f"1 of 3 pictures would be refused: {told}"):
        picture_difference(same, same)


def test_the_look_has_eagers_pictures_above_the_engines():
    expected, got = pictures(), 255 - pictures()
    look = np.asarray(side_by_side(expected, got))
    assert look.shape == (2 * 8, 3 * 8, 3)
    assert np.array_equal(look[:8, 8:16], expected[1]) and np.array_equal(look[8:, 16:], got[2])
