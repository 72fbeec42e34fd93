"""A linear probe for the generator of an image: a test of the Generator-Invariance Hypothesis."""

from __future__ import annotations

import numpy as np

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.evaluate.linear_probe import linear_probe

TRAIN = 0.75  # of the captions
# What the probe is given, by its key in an analysis.
FEATURES = {
    "trained": "the trained model",
    "untrained": "the untrained model",
    "content": "what is in the pictures",
    "spectrum": "their spectrum alone",
}


def generator_probe(features: np.ndarray, generators: np.ndarray, captions: np.ndarray) -> dict[str, float]:
    """Return the accuracy of a linear probe for the generator on captions that it was not trained on.

    It is 1 / m (`chance`) if the embedding tells nothing about which of m generators rendered an image. Above that it
    is read beside `probe_references`: what generators draw of a caption differs too.

    Args:
        features: float [n, d], L2-normalised.
        generators: int64 [n].
        captions: int64 [n].

    Returns:
        {"share", "low", "high", "n"}, a proportion with its 95 % interval, and "chance".
    """
    known = captions < np.quantile(np.unique(captions), TRAIN)
    right = linear_probe(features[known], generators[known], features[~known], generators[~known])
    return {**proportion_with_interval(right.astype(float)), "chance": round(1 / len(np.unique(generators)), 4)}
