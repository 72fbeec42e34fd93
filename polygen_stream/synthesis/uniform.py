"""synthesis.policy = "uniform": tasks in the order of the ledger, whatever the trainer measures."""

from __future__ import annotations

from polygen_stream.config import SynthesisConfig
from polygen_stream.ring import Feedback
from polygen_stream.synthesis.policy import Weights


class Uniform:
    """Wants everything alike."""

    def __init__(self, config: SynthesisConfig) -> None:
        pass

    def weights(self, feedback: Feedback) -> Weights:
        """Return no weights."""
        return Weights()
