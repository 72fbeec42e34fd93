"""synthesis.policy = "progress": more of what the model is learning right now.

Progress is the mean loss over a longer time minus that over the newest steps (a bandit's reward for learning progress:
Graves et al. 2017, arXiv 1704.03003). What cannot be learned makes no progress, and neither does what is learned.
"""

from __future__ import annotations

from polygen_stream.config import SynthesisConfig
from polygen_stream.ring import CellMeans, Feedback
from polygen_stream.synthesis.policy import Weights
from polygen_stream.synthesis.standard_scores import weights_by_score


class Progress:
    """Wants what has the steepest fall of the loss."""

    def __init__(self, config: SynthesisConfig) -> None:
        self._config = config

    def weights(self, feedback: Feedback) -> Weights:
        """Return weights that grow with the fall of the loss."""

        def fall(row: CellMeans) -> float:
            return row.earlier_loss - row.loss

        return weights_by_score(feedback, self._config, fall)
