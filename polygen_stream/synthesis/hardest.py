"""synthesis.policy = "hardest": more of what the model tells apart worst.

Of pairs that is the margin between T+ and T-, otherwise the loss. An axis whose images do not show what the caption
says stays hard for ever, and this policy asks for more and more of it; "progress" does not.
"""

from __future__ import annotations

from polygen_stream.config import SynthesisConfig
from polygen_stream.ring import CellMeans, Feedback
from polygen_stream.synthesis.policy import Weights
from polygen_stream.synthesis.standard_scores import FEWEST_IMAGES, weights_by_score


class Hardest:
    """Wants what has the smallest margin, or the largest loss where there are no pairs."""

    def __init__(self, config: SynthesisConfig) -> None:
        self._config = config

    def weights(self, feedback: Feedback) -> Weights:
        """Return weights that fall with the margin."""
        rows = (*feedback.axes.values(), *feedback.concepts.values(), *feedback.generators.values())
        pairs = any(row.pairs >= FEWEST_IMAGES for row in rows)

        def hardness(row: CellMeans) -> float | None:
            if not pairs:
                return row.loss
            return -row.margin if row.pairs >= FEWEST_IMAGES else None

        return weights_by_score(feedback, self._config, hardness)
