"""Can the generator of a picture be told from its embedding? The Generator-Invariance Hypothesis, tested."""

from __future__ import annotations

import numpy as np

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.evaluate.linear_probe import linear_probe

TRAIN = 0.75  # of the captions


def generator_probe(features: np.ndarray, generators: np.ndarray, captions: np.ndarray) -> dict[str, float]:
    """Accuracy of a linear probe for the generator, on captions that it did not train on; with a 95 % interval.

    1 / m (`chance`) where the embedding forgot which of m generators drew a picture, 1 where it did not.

    Args:
        features: float [n, d], L2-normalised.
        generators, captions: int64 [n].
    """
    known = captions < np.quantile(np.unique(captions), TRAIN)
    right = linear_probe(features[known], generators[known], features[~known], generators[~known])
    return {**proportion_with_interval(right.astype(float)), "chance": round(1 / len(np.unique(generators)), 4)}
