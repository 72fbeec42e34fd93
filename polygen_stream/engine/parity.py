"""The parity gate: an engine whose parts do not do what eager's do is not published.

Parts are held to a tolerance, each on its own. Whole pictures are not: after 25 to 50 steps, each of which starts from
the last one's rounding, two pictures of one caption and seed may be equally good and not the same. Their difference is
measured and shown, and only pictures that show nothing are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polygen_stream.base.errors import PolygenError
from polygen_stream.generators.quality import refuse_reasons

# Plain enough for every generator's vocabulary; one picture each.
CAPTIONS = ("a big red ball in the snow", "two green cars on a beach", "a small blue dog", "a yellow house at night")
SEEDS = (11, 12, 13, 14)


class ParityError(PolygenError):
    """An engine differs from eager by more than its recipe allows, or renders nothing."""


def part_difference(name: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> float:
    """Return the largest difference over all outputs, relative to the larger of 1 and eager's largest value.

    Raises:
        ParityError: a value is not finite, or an output of another shape.
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
    return worst


def picture_difference(expected: np.ndarray, got: np.ndarray) -> float:
    """Return the mean absolute difference in grey levels (0 to 255) of the worst picture, uint8 [n, height, width, 3].

    Raises:
        ParityError: a black or constant picture, which is also what not a number becomes.
    """
    refused = _refused(refuse_reasons(got))
    if refused:
        raise ParityError(f"{len(refused)} of {len(got)} pictures would be refused: {refused[0]}")
    return np.abs(expected.astype(np.int16) - got).mean(axis=(1, 2, 3)).max().item()


def side_by_side(expected: np.ndarray, got: np.ndarray) -> Image.Image:
    """Return two rows of pictures, eager's above the engines' of the same caption; each uint8 [n, height, width, 3]."""
    rows = [np.concatenate(list(pictures), axis=1) for pictures in (expected, got)]  # [height, n x width, 3] each
    return Image.fromarray(np.concatenate(rows, axis=0))


def _refused(reasons: Sequence[str | None]) -> list[str]:
    return [reason for reason in reasons if reason is not None]
