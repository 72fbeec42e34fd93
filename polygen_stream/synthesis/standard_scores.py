"""From an error of each row of the feedback board to weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from polygen_stream.config import SynthesisConfig
from polygen_stream.ring import CellMeans, Feedback
from polygen_stream.synthesis.policy import Weights

FEWEST_IMAGES = 16.0  # of a row that is compared with others
LEAST_YIELD = 0.01
LARGEST = 2.0  # standard scores are cut at plus and minus this


def weights_by_score(
    feedback: Feedback, config: SynthesisConfig, score: Callable[[CellMeans], float | None]
) -> Weights:
    """Weigh the rows of the factors in `synthesis.by` by exp(sharpness * standard score) among those of their factor.

    Standard scores make policies indifferent to the scale of what they look at, which changes while a model learns. An
    axis in `synthesis.yields` weighs as much less as its images show the edit less often: of what is asked for, only
    those teach it.

    Args:
        feedback: the means of the newest steps.
        config: which factors, and how sharply.
        score: of a row, larger = more wanted; None = unknown, which weighs 1.
    """

    def of(factor: str, rows: Mapping[str, CellMeans]) -> dict[str, float]:
        if factor not in config.by:
            return {}
        scores = {name: score(row) for name, row in rows.items() if row.images >= FEWEST_IMAGES}
        known = {name: value for name, value in scores.items() if value is not None}
        values = np.array(list(known.values()))
        spread = float(values.std()) if len(values) > 1 else 0.0
        if not spread > 1e-12:
            return {}
        standard = np.clip((values - values.mean()) / spread, -LARGEST, LARGEST)
        return dict(zip(known, np.exp(config.sharpness * standard).tolist(), strict=True))

    axes = of("axis", feedback.axes)
    for axis, share in config.yields.items():
        axes[axis] = axes.get(axis, 1.0) * max(share, LEAST_YIELD)
    return Weights(axes, of("concept", feedback.concepts), of("generator", feedback.generators))
