"""A share with its interval."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def share(right: np.ndarray) -> dict[str, float]:
    """Share of 1.0 among 0.0 and 1.0 (NaN left out) with its 95 % Wilson interval."""
    asked = right[~np.isnan(right)]
    if not len(asked):
        return {"share": float("nan"), "low": 0.0, "high": 1.0, "n": 0}
    interval = binomtest(int(asked.sum()), len(asked)).proportion_ci(method="wilson")
    shown = {"share": asked.mean(), "low": interval.low, "high": interval.high}
    return {**{k: round(float(v), 4) for k, v in shown.items()}, "n": len(asked)}
