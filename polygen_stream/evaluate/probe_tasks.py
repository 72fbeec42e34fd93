"""Linear probe and few-shot as tasks: a dataset's training pictures teach, its test pictures ask."""

from __future__ import annotations

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.score import Score, mean_of, proportion

SHOTS = 5


def linear_probe_task(data: Data, dataset: str) -> dict[str, Score]:
    """Accuracy and mean per-class recall of logistic regression on the whole training split."""
    known, asked = data.labelled(dataset, "train"), data.labelled(dataset, "test")
    labels = asked.labels.numpy()
    right = linear_probe(known.features.numpy(), known.labels.numpy(), asked.features.numpy(), labels)
    chance = 1 / len(asked.classes)
    per_class = [proportion(right[labels == c], chance) for c in np.unique(labels)]
    return {"acc1": proportion(right, chance), "mean_per_class_recall": mean_of(per_class)}


def few_shot_task(data: Data, dataset: str) -> dict[str, Score]:
    """Mean accuracy over draws of SHOTS training pictures per class; the interval is that of one draw."""
    known, asked = data.labelled(dataset, "train"), data.labelled(dataset, "test")
    labels = known.labels.numpy()
    fewest = np.bincount(labels, minlength=len(known.classes)).min()
    if fewest < SHOTS:
        raise UserError(f"few_shot:{dataset}: a class has {fewest} pictures for training, {SHOTS} are needed")
    draws = few_shot(
        known.features.numpy(), labels, asked.features.numpy(), asked.labels.numpy(), shots=SHOTS
    )  # bool [draws, n]
    chance = 1 / len(asked.classes)
    each = [proportion(right, chance) for right in draws]
    score, low, high = (float(np.mean([getattr(one, part) for one in each])) for part in ("score", "low", "high"))
    return {f"{SHOTS}_shot": Score(score, low, high, len(asked.labels), chance)}
