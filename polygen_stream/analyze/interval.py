"""A proportion with its interval."""

from __future__ import annotations

import numpy as np

from polygen_stream.evaluate.score import proportion


def proportion_with_interval(right: np.ndarray) -> dict[str, float]:
    """Return the proportion of 1.0 among 0.0 and 1.0, NaN left out, with its 95 % Wilson interval.

    Returns:
        {"share", "low", "high", "n"}: rounded to four digits, and the number of values; NaN and 0..1 if there are none.
    """
    judged = right[~np.isnan(right)]
    if not len(judged):
        return {"share": float("nan"), "low": 0.0, "high": 1.0, "n": 0}
    found = proportion(judged)
    shown = {"share": found.score, "low": found.low, "high": found.high}
    return {**{k: round(v, 4) for k, v in shown.items()}, "n": found.n}
