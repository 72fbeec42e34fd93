"""The parity gate lets through what equals eager and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polygen_stream.engine.parity import ParityError, check_part, check_pictures


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def test_the_worst_difference_is_reported_relative_to_large_values():
    small = {"out": torch.tensor([0.5, -0.25])}
    assert check_part("unet", small, {"out": torch.tensor([0.5, -0.2505])}, 1e-3) == pytest.approx(5e-4, rel=1e-3)
    large = {"out": torch.tensor([100.0, 1.0])}
    assert check_part("unet", large, {"out": torch.tensor([100.05, 1.0])}, 1e-3) == pytest.approx(5e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.502, "unet: differs from eager by 2.00e-03, allowed are 1e-03"), (float("nan"), "not finite"),
     (float("inf"), "not finite")],
)  # fmt: skip
def test_a_part_beyond_the_tolerance_or_not_finite_fails(value: float, told: str):
    with pytest.raises(ParityError, match=told):
        check_part("unet", {"out": torch.tensor([0.5])}, {"out": torch.tensor([value])}, 1e-3)


def test_not_finite_fails_even_where_eager_is_not_finite():
    bad = {"out": torch.tensor([float("nan")])}
    with pytest.raises(ParityError, match="not finite"):
        check_part("unet", bad, bad, 1e-3)


def test_another_shape_fails():
    with pytest.raises(ParityError, match=r"shape \[2\], eager has \[1\]"):
        check_part("unet", {"out": torch.zeros(1)}, {"out": torch.zeros(2)}, 1e-3)


def test_pictures_are_judged_by_the_worst_of_them():
    expected = pictures()
    got = expected.copy()
    got[1] = np.where(got[1] > 250, got[1] - 3, got[1] + 3)
    assert check_pictures(expected, got, 3.0) == pytest.approx(3.0)
    with pytest.raises(ParityError, match=r"differs from eager's by 3.00 grey levels, allowed are 2"):
        check_pictures(expected, got, 2.0)


@pytest.mark.parametrize(("grey", "told"), [(0, "black"), (128, "constant")])
def test_black_and_constant_pictures_fail_even_where_eager_makes_them(grey: int, told: str):
    same = pictures()
    same[2] = grey
    with pytest.raises(ParityError, match=f"1 of 3 pictures would be refused: {told}"):
        check_pictures(same, same, 255.0)
