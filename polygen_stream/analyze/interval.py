"""A share with its interval."""

from __future__ import annotations

import numpy as np

from polygen_stream.evaluate.score import proportion


def proportion_with_interval(right: np.ndarray) -> dict[str, float]:
    """Share of 1.0 among 0.0 and 1.0 (NaN left out) with its 95 % Wilson interval."""
    asked = right[~np.isnan(right)]
    if not len(asked):
        return {"share": float("nan"), "low": 0.0, "high": 1.0, "n": 0}
    found = proportion(asked)
    shown = {"share": found.score, "low": found.low, "high": found.high}
    return {**{k: round(v, 4) for k, v in shown.items()}, "n": found.n}
