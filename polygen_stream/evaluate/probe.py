"""Linear probes on frozen features: all of a training set, or a few examples per class."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from polygen_stream.seeding import rng

COSTS = tuple(10.0**exponent for exponent in range(-2, 5))  # inverse regularisation C; features have length 1
ITERATIONS = 1000


def linear_probe(features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray) -> float:
    """Top-1 accuracy of multinomial logistic regression.

    As CLIP's linear probe (Radford et al. 2021, section 3.2): L-BFGS, C by accuracy on a fifth of the training set,
    then fitted to all of it. Of equally good C the smallest.

    Args:
        features: float [n, d], L2-normalised.
        labels: int64 [n].
    """
    split = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
    [(train, held_out)] = split.split(features, labels)
    scores = [_accuracy(features[train], labels[train], features[held_out], labels[held_out], c) for c in COSTS]
    return _accuracy(features, labels, test_features, test_labels, COSTS[int(np.argmax(scores))])


def few_shot(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    shots: int = 5,
    draws: int = 5,
    cost: float = 100.0,
) -> float:
    """Mean top-1 accuracy of logistic regression on `shots` examples per class, over some draws of them.

    There are too few examples to choose C by, so it is given.

    Args:
        features: float [n, d], L2-normalised.
        labels: int64 [n], each class at least `shots` times.
    """
    accuracies = []
    for draw in range(draws):
        order = rng("few-shot", draw).permutation(len(labels))
        chosen = np.concatenate([order[labels[order] == label][:shots] for label in np.unique(labels)])
        accuracies.append(_accuracy(features[chosen], labels[chosen], test_features, test_labels, cost))
    return float(np.mean(accuracies))


def _accuracy(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray, cost: float
) -> float:
    probe = LogisticRegression(C=cost, max_iter=ITERATIONS).fit(features, labels)
    return float(probe.score(test_features, test_labels))
