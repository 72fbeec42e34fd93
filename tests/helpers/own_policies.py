"""A synthesis policy of a user's own, for tests that name it in a config."""

from __future__ import annotations

from polygen_stream.synthesis.policy import Weights


class RareAxis:
    """Wants "axis 7", by synthesis.sharpness."""

    def __init__(self, config) -> None:
        self.weight = config.sharpness

    def weights(self, feedback) -> Weights:
        return Weights({"axis 7": self.weight})
