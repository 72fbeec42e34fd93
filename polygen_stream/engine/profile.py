"""What an engine has to serve: how many rows, and what a row of each input is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Profile:
    """Inputs of one part.

    Args:
        rows: fewest, usual and most rows of a call. Guidance makes two rows of a picture in the denoiser.
        shapes: the dimensions after the first, by input name.
        dtypes: torch's names, e.g. "float32", by input name.
        bf16: compute in bfloat16 inside; inputs and outputs stay what they are.
    """

    rows: tuple[int, int, int]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    bf16: bool = False

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Profile:
        """The profile of a manifest, where `dataclasses.asdict` of it lies as JSON."""
        shapes = {name: tuple(shape) for name, shape in stored["shapes"].items()}
        return cls(tuple(stored["rows"]), shapes, stored["dtypes"], stored["bf16"])
