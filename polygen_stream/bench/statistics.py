"""Summary of a repeated measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def summarise(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return the median, the spread (distance between the quartiles) and the number of values."""
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": median, "spread": high - low, "n": len(values)}
