"""Linear probes on frozen features: all of a training set, or a few examples per class."""

from __future__ import annotations

import math

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import rng

COSTS = tuple(10.0**exponent for exponent in range(-2, 5))  # inverse regularisation C; features have length 1
ITERATIONS = 1000
HELD_OUT = 0.2  # of the training set, to choose C by


def linear_probe(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> np.ndarray:
    """Multinomial logistic regression: whether each test example is right, bool [test examples]; its mean is top-1.

    As CLIP's linear probe (Radford et al. 2021, section 3.2): L-BFGS, C by accuracy on a fifth of the training set,
    then fitted to all of it. Of equally good C the smallest. Training examples with a NaN are left out, a test example
    with one is never right.

    Args:
        features: float [n, d], L2-normalised.
        labels: int64 [n].
        test_features: float [m, d].
        test_labels: int64 [m].

    Raises:
        UserError: fewer than two classes have finite features, or there are too few for a fifth to be held out.
    """
    features, labels = _finite(features, labels)
    _check_enough(labels)
    split = StratifiedShuffleSplit(1, test_size=HELD_OUT, random_state=0)
    [(train, held_out)] = split.split(features, labels)
    scores = [_right(features[train], labels[train], features[held_out], labels[held_out], c).mean() for c in COSTS]
    return _right(features, labels, test_features, test_labels, COSTS[int(np.argmax(scores))])


def few_shot(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    shots: int = 5,
    draws: int = 5,
    cost: float = 100.0,
) -> np.ndarray:
    """Logistic regression on `shots` examples per class, over some draws of them: bool [draws, test examples].

    There are too few examples to choose C by, so it is given. NaN and errors as in `linear_probe`.

    Args:
        features: float [n, d], L2-normalised.
        labels: int64 [n], each class at least `shots` times.
        test_features: float [m, d].
        test_labels: int64 [m].
        shots: training examples per class.
        draws: how often they are drawn.
        cost: inverse regularisation C.
    """
    features, labels = _finite(features, labels)
    right = []
    for draw in range(draws):
        order = rng("few-shot", draw).permutation(len(labels))
        chosen = np.concatenate([order[labels[order] == label][:shots] for label in np.unique(labels)])
        right.append(_right(features[chosen], labels[chosen], test_features, test_labels, cost))
    return np.stack(right)


def _right(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray, cost: float
) -> np.ndarray:
    probe = LogisticRegression(C=cost, max_iter=ITERATIONS).fit(features, labels)
    usable = np.isfinite(test_features).all(1)
    right = np.zeros(len(test_labels), bool)
    if usable.any():
        right[usable] = probe.predict(test_features[usable]) == test_labels[usable]
    return right


def _check_enough(labels: np.ndarray) -> None:
    """Whether a part can be held out that has every class, as what is left has.

    Raises:
        UserError: it cannot.
    """
    names, counts = np.unique(labels, return_counts=True)
    held_out = math.ceil(HELD_OUT * len(labels))
    if counts.min() < 2 or held_out < len(names):
        raise UserError(
            f"{len(labels)} pictures of {len(names)} classes are too few for training, {counts.min()} of the smallest"
            " class: a fifth of them is held out to choose C, and it needs one of every class, as the rest does; add"
            " pictures, or use few_shot"
        )


def _finite(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the examples that hold a NaN.

    Raises:
        UserError: fewer than two classes are left.
    """
    usable = np.isfinite(features).all(1)
    if len(np.unique(labels[usable])) < 2:
        raise UserError(f"{int(usable.sum())} of {len(labels)} training features are finite: too few to fit a probe")
    return features[usable], labels[usable]
