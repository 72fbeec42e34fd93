"""The parity gate: an engine that does not do what eager does is not published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from polygen_stream.base.errors import PolygenError
from polygen_stream.generators.quality import refuse_reasons

# Plain enough for every generator's vocabulary; one picture each.
CAPTIONS = ("a big red ball in the snow", "two green cars on a beach", "a small blue dog", "a yellow house at night")
SEEDS = (11, 12, 13, 14)


class ParityError(PolygenError):
    """An engine differs from eager by more than its recipe allows."""


def check_part(name: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor], tolerance: float) -> float:
    """Largest difference over all outputs, relative to the larger of 1 and eager's largest value.

    Raises:
        ParityError: not finite, of another shape, or above the tolerance.
    """
    worst = 0.0
    for output, reference in expected.items():
        found = got[output]
        if found.shape != reference.shape:
            raise ParityError(f"{name}.{output}: shape {list(found.shape)}, eager has {list(reference.shape)}")
        if not torch.isfinite(found).all():
            raise ParityError(f"{name}.{output}: {int((~torch.isfinite(found)).sum())} values are not finite")
        scale = max(1.0, reference.float().abs().max().item())
        worst = max(worst, (found.float() - reference.float()).abs().max().item() / scale)
    if worst > tolerance:
        raise ParityError(f"{name}: differs from eager by {worst:.2e}, allowed are {tolerance:.0e}")
    return worst


def check_pictures(expected: np.ndarray, got: np.ndarray, tolerance: float) -> float:
    """Mean absolute difference in grey levels (0 to 255) of pictures uint8 [n, height, width, 3], the worst picture's.

    Raises:
        ParityError: a black or constant picture, or a difference above the tolerance.
    """
    refused = _refused(refuse_reasons(got))
    if refused:
        raise ParityError(f"{len(refused)} of {len(got)} pictures would be refused: {refused[0]}")
    worst = np.abs(expected.astype(np.int16) - got).mean(axis=(1, 2, 3)).max().item()
    if worst > tolerance:
        raise ParityError(f"a picture differs from eager's by {worst:.2f} grey levels, allowed are {tolerance}")
    return worst


def _refused(reasons: Sequence[str | None]) -> list[str]:
    return [reason for reason in reasons if reason is not None]
