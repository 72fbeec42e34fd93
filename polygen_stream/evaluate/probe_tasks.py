"""Linear probe and few-shot as tasks: a dataset's training pictures teach, its test pictures ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.class_folders import listed
from polygen_stream.evaluate.data import Data, LabelledFeatures, check_classes
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.score import Score, mean_of, proportion

SHOTS = 5


def linear_probe_task(data: Data, dataset: str) -> dict[str, Score]:
    """Accuracy and mean per-class recall of logistic regression on the whole training split."""
    known, asked = _both_splits(data, dataset)
    labels = asked.labels.numpy()
    try:
        right = linear_probe(known.features.numpy(), known.labels.numpy(), asked.features.numpy(), labels)
    except UserError as problem:
        raise UserError(f"linear_probe:{dataset}: {problem}") from None
    chance = 1 / len(asked.classes)
    per_class = [proportion(right[labels == c], chance) for c in np.unique(labels)]
    return {"acc1": proportion(right, chance), "mean_per_class_recall": mean_of(per_class)}


def few_shot_task(data: Data, dataset: str) -> dict[str, Score]:
    """Mean accuracy over draws of SHOTS training pictures per class; the interval is that of one draw."""
    known, asked = _both_splits(data, dataset)
    labels = known.labels.numpy()
    check_shots(dataset, known.classes, labels)
    draws = few_shot(
        known.features.numpy(), labels, asked.features.numpy(), asked.labels.numpy(), shots=SHOTS
    )  # bool [draws, n]
    chance = 1 / len(asked.classes)
    each = [proportion(right, chance) for right in draws]
    score, low, high = (float(np.mean([getattr(one, part) for one in each])) for part in ("score", "low", "high"))
    return {f"{SHOTS}_shot": Score(score, low, high, len(asked.labels), chance)}


def _both_splits(data: Data, dataset: str) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Return what is for training and what is for testing.

    Raises:
        UserError: there is one class, or one that is asked for has no picture for training.
    """
    known, asked = data.labelled(dataset, "train"), data.labelled(dataset, "test")
    check_classes(dataset, known.classes)
    check_taught(dataset, asked.classes, known.labels.tolist(), asked.labels.tolist())
    return known, asked


def check_taught(dataset: str, classes: Sequence[str], known: Sequence[int], asked: Sequence[int]) -> None:
    """Refuse a class without a picture for training, by the labels of both splits.

    Raises:
        UserError: there is one that is asked for.
    """
    if unknown := sorted(set(asked) - set(known)):
        names = listed(classes[label] for label in unknown)
        raise UserError(
            f"{dataset} has pictures of {names} for testing and none for training: add some, or remove them"
        )


def check_shots(dataset: str, classes: Sequence[str], known: ArrayLike) -> None:
    """Refuse a class with too few pictures for training, by the labels of those.

    Raises:
        UserError: one has fewer than SHOTS.
    """
    of_class = np.bincount(known, minlength=len(classes))
    fewest = int(of_class.argmin())
    if of_class[fewest] < SHOTS:
        raise UserError(
            f"few_shot:{dataset}: the class {classes[fewest]} has {of_class[fewest]} pictures for training, and"
            f" {SHOTS} are needed"
        )
