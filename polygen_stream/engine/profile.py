"""The batch sizes that an engine has to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """Inputs of one part: how many rows per call, and the shape and type of a row of each.

    Args:
        rows: fewest, usual and most rows of a call. Guidance makes two rows of a picture in the denoiser.
        shapes: the dimensions after the first, by input name.
        dtypes: torch's names, e.g. "float32", by input name.
    """

    rows: tuple[int, int, int]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
