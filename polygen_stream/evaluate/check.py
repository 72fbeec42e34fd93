"""Whether tasks can be scored, found out without a model: what they name is opened as for scoring, no picture is read.

    python -m polygen_stream.evaluate.check DATA TASK...      DATA: as --data of `polygen-stream evaluate`, "" = none

An error is the last line of standard error, "error: ...".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import cast

from polygen_stream.base.errors import PolygenError
from polygen_stream.evaluate import compositional
from polygen_stream.evaluate.data import check_classes, open_captioned, open_labelled
from polygen_stream.evaluate.probe_tasks import check_shots, check_taught
from polygen_stream.evaluate.tasks import micro_split, split_task
from polygen_stream.evaluate.transfer.task import listed_pictures, picture_folder
from polygen_stream.evaluate.user_data import ImageFiles, LabelledImages, Transform

_AS_IT_IS = cast(Transform, lambda picture: picture)  # of pictures that are not read


def check_tasks(names: Sequence[str], root: str | None) -> None:
    """Refuse tasks that could not be scored, in the words of `polygen-stream evaluate`.

    Args:
        names: Tasks, KIND or KIND:DATASET.
        root: Folder of standard datasets, or a URL; None = none.

    Raises:
        UserError: An unknown task, or data that is not there or cannot be used.
    """
    for kind, dataset in [split_task(name) for name in names]:
        CHECKS[kind](dataset, root)


def _labelled(dataset: str, root: str | None, split: str) -> LabelledImages:
    found = open_labelled(dataset, split, root, _AS_IT_IS)
    check_classes(dataset, found.classes)
    return found


def _zero_shot(dataset: str, root: str | None) -> None:
    if dataset != "micro":
        _labelled(dataset, root, "test")


def _linear_probe(dataset: str, root: str | None) -> Sequence[int] | None:
    """Return the labels for training, where they are known before pictures are read."""
    if dataset == "micro":
        return None
    known, asked = (_labelled(dataset, root, split) for split in ("train", "test"))
    if not (isinstance(known.dataset, ImageFiles) and isinstance(asked.dataset, ImageFiles)):
        return None
    labels = cast(Sequence[int], known.dataset.targets)
    check_taught(dataset, asked.classes, labels, cast(Sequence[int], asked.dataset.targets))
    return labels


def _few_shot(dataset: str, root: str | None) -> None:
    labels = _linear_probe(dataset, root)
    if labels is not None:
        check_shots(dataset, _labelled(dataset, root, "train").classes, labels)


def _sugarcrepe(dataset: str, root: str | None) -> None:
    rows = [row for each in compositional.CATEGORIES for row in compositional.read_sugarcrepe(each)]
    compositional.find_pictures(dataset, root, rows)


def _sugarcrepe_pp(dataset: str, root: str | None) -> None:
    rows = [row for each in compositional.CATEGORIES_PP for row in compositional.read_sugarcrepe_pp(each)]
    compositional.find_pictures(dataset, root, rows)


# By kind, as in tasks.TASKS: (dataset, root) -> opens what the task reads.
CHECKS: dict[str, Callable[[str, str | None], object]] = {
    "zero_shot": _zero_shot,
    "linear_probe": _linear_probe,
    "few_shot": _few_shot,
    "retrieval": lambda dataset, root: open_captioned(dataset, root, _AS_IT_IS),
    "sugarcrepe": _sugarcrepe,
    "sugarcrepe_pp": _sugarcrepe_pp,
    "sugarcrepe_pp_tot": lambda dataset, root: compositional.check_no_dataset(dataset),
    "edits": lambda dataset, root: compositional.read_edits(dataset),
    "pairs": lambda dataset, root: compositional.read_pairs(dataset),
    "micro": lambda dataset, root: micro_split(dataset),
    "transfer": lambda dataset, root: listed_pictures(picture_folder(dataset)),
}


if __name__ == "__main__":
    try:
        check_tasks(sys.argv[2:], sys.argv[1] or None)
    except PolygenError as problem:
        print(f"error: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
        sys.exit(problem.exit_code)
