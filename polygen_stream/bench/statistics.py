"""A measurement that was repeated, in three numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def summarise(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median, spread (distance between the quartiles) and number of values."""
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": median, "spread": high - low, "n": len(values)}
