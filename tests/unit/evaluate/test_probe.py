"""Linear probes: against scikit-learn used directly, and on features whose answer is known."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from polygen_stream.evaluate.linear_probe import COSTS, few_shot, linear_probe


def clusters(seed: int, noise: float, per_class: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Unit features around four directions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    features = np.eye(8)[labels] + noise * rng.normal(size=(len(labels), 8))
    return features / np.linalg.norm(features, axis=1, keepdims=True), labels


def test_the_probe_equals_scikit_learn_with_the_best_c_of_a_held_out_fifth():
    train, labels = clusters(0, noise=0.6)
    test, test_labels = clusters(1, noise=0.6)
    fit, held_out = next(StratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(train, labels))
    by_c = {}
    for c in COSTS:
        model = LogisticRegression(C=c, max_iter=1000).fit(train[fit], labels[fit])
        by_c[c] = (model.predict(train[held_out]) == labels[held_out]).mean()
    best = max(COSTS, key=lambda c: (by_c[c], -c))
    expected = LogisticRegression(C=best, max_iter=1000).fit(train, labels).predict(test) == test_labels
    assert 0.5 < expected.mean() < 1
    assert linear_probe(train, labels, test, test_labels).tolist() == expected.tolist()


def test_features_without_the_label_give_chance():
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(200, 8)), np.repeat(np.arange(4), 50)
    test, test_labels = rng.normal(size=(400, 8)), np.repeat(np.arange(4), 100)
    assert 0.15 < linear_probe(features, labels, test, test_labels).mean() < 0.35


def test_few_shots_see_so_many_examples_of_a_class():
    train, labels = clusters(3, noise=0.05)
    test, test_labels = clusters(4, noise=0.05)
    assert few_shot(train, labels, test, test_labels).all()
    noisy, noisy_labels = clusters(5, noise=0.9, per_class=200)
    asked, asked_labels = clusters(6, noise=0.9, per_class=200)
    few, more = (few_shot(noisy, noisy_labels, asked, asked_labels, shots=shots).mean() for shots in (1, 50))
    assert 0.25 < few < more
