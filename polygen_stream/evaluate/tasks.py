"""What a CLIP can be asked: every task turns features into scores. One line in `TASKS` adds one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import compositional
from polygen_stream.evaluate import probe_tasks as probing
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.metrics import best_ranks, ranks
from polygen_stream.evaluate.micro_suite import IMAGES_PER_THING, build_suite
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.evaluate.transfer.task import transfer
from polygen_stream.micro.world import Split

RECALLS = (1, 5, 10)


class EvalTask(Protocol):
    """Scores the encoder of `data`, by name; `dataset` is what stands behind the colon of KIND:DATASET."""

    def __call__(self, data: Data, dataset: str) -> dict[str, Score]:
        """Return the scores by name."""
        ...


def zero_shot(data: Data, dataset: str) -> dict[str, Score]:
    """Top-1, top-5 and mean per-class recall, each class being the mean of its prompts' features."""
    found = data.labelled(dataset)
    classes = len(found.classes)
    place = ranks(found.features, data.class_features(dataset, found), found.labels)
    first, labels = (place == 1).numpy(), found.labels.numpy()
    scores = {"acc1": proportion(first, 1 / classes)}
    if classes >= 5:
        scores["acc5"] = proportion((place <= 5).numpy(), 5 / classes)
    per_class = [proportion(first[labels == c], 1 / classes) for c in np.unique(labels)]
    return {**scores, "mean_per_class_recall": mean_of(per_class)}


def retrieval(data: Data, dataset: str) -> dict[str, Score]:
    """R@1, 5 and 10 both ways: a query is right if one of its own is among the K most similar."""
    found = data.captioned(dataset)
    directions = {
        "i2t": (best_ranks(found.images, found.texts, found.owner).numpy(), len(found.texts) / len(found.images)),
        "t2i": (ranks(found.texts, found.images, found.owner).numpy(), 1.0),
    }
    candidates = {"i2t": len(found.texts), "t2i": len(found.images)}
    return {
        # the chance that K of all candidates hold one of `own`; of the mean number where pictures differ in captions
        f"{way}_r{k}": proportion(place <= k, _one_of(own, candidates[way], k))
        for way, (place, own) in directions.items()
        for k in RECALLS
        if k < candidates[way]
    }


def micro(data: Data, dataset: str) -> dict[str, Score]:
    """The micro world's test set, on reserved combinations; `dataset` may be "seen"."""
    found = score_suite(data.encoder, build_suite(micro_split(dataset), IMAGES_PER_THING))
    by_edit = {
        **{f"edit_{edit}": score for edit, score in found.by_edit.items()},
        **{f"itt_{edit}": score for edit, score in found.itt_by_edit.items()},
    }
    return {**found.scores, **by_edit}


def micro_split(dataset: str) -> Split:
    """Return the split of the micro world that a dataset names.

    Raises:
        UserError: there is no such split.
    """
    if dataset not in ("", "seen", "unseen"):
        raise UserError(f"micro:{dataset}: the micro suite has the splits unseen (default) and seen")
    return Split(dataset or "unseen")


TASKS: dict[str, EvalTask] = {
    "zero_shot": zero_shot,
    "linear_probe": probing.linear_probe_task,
    "few_shot": probing.few_shot_task,
    "retrieval": retrieval,
    "sugarcrepe": compositional.sugarcrepe,
    "sugarcrepe_pp": compositional.sugarcrepe_pp,
    "sugarcrepe_pp_tot": compositional.sugarcrepe_pp_tot,
    "edits": compositional.edits,
    "pairs": compositional.pairs,
    "micro": micro,
    "transfer": transfer,
}
NEED_DATASET = ("zero_shot", "linear_probe", "few_shot", "retrieval", "edits", "pairs")


def run_tasks(
    data: Data,
    names: Sequence[str],
    started: Callable[[str], None],
    finished: Callable[[str, dict[str, Score]], object] = lambda name, scores: None,
) -> dict[str, dict[str, Score]]:
    """{name: {score: Score}} of tasks called KIND or KIND:DATASET; `started(name)` before each, `finished` after.

    Raises:
        UserError: an unknown task, or one that needs a dataset and names none; before anything is computed.
    """
    split = [split_task(name) for name in names]
    results = {}
    for name, (kind, dataset) in zip(names, split, strict=True):
        started(name)
        results[name] = TASKS[kind](data, dataset)
        finished(name, results[name])
    return results


def split_task(name: str) -> tuple[str, str]:
    """Return kind and dataset ("" = none) of a task called KIND or KIND:DATASET.

    Raises:
        UserError: an unknown kind, or one that needs a dataset and has none.
    """
    kind, _, dataset = name.partition(":")
    if kind not in TASKS:
        near = get_close_matches(kind, TASKS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown task {kind!r}: {hint}known are {', '.join(TASKS)}")
    if kind in NEED_DATASET and not dataset:
        raise UserError(f"task {kind} needs a dataset: {kind}:NAME, with NAME a standard dataset or a path")
    return kind, dataset


def _one_of(own: float, candidates: int, k: int) -> float:
    """Chance that k of the candidates, taken at random, hold one of `own`."""
    missed = 1.0
    for i in range(k):
        missed *= max(0.0, candidates - own - i) / (candidates - i)
    return 1 - missed
