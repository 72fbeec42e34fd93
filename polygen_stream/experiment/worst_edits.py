"""The edits that are hardest for all arms together, as an outcome of their own: what a curriculum is meant to mend.

They are chosen by the mean over arms, so that chance in the choice favours no arm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.evaluate.micro_suite import PICTURES_PER_EDIT
from polygen_stream.experiment.results import COMPOSITION, WORST, TrialResult
from polygen_stream.experiment.spec import Experiment
from polygen_stream.micro.edits import EDITS


def accuracy_by_edit(results: Sequence[TrialResult], arm: str) -> dict[str, float]:
    """Return the mean compositional accuracy of an arm's test runs, in 0..1, by edit; {} without runs."""
    own = [by_edit(result).mean(axis=1) for result in results if result.phase == "test" and result.arm == arm]
    return dict(zip(EDITS, np.mean(own, axis=0).tolist(), strict=True)) if own else {}


def worst_edits(experiment: Experiment, results: Sequence[TrialResult]) -> list[str]:
    """Return the `experiment.worst_edits` edits in which the mean over arms is lowest, the lowest first."""
    by_arm = [found for arm in experiment.arms if (found := accuracy_by_edit(results, arm.name))]
    accuracy = {edit: float(np.mean([found[edit] for found in by_arm])) for edit in EDITS} if by_arm else {}
    return sorted(accuracy, key=accuracy.__getitem__)[: experiment.worst_edits]


def with_worst_edits(experiment: Experiment, results: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the results with WORST among the scores and the items of test runs, if the experiment asks for it."""
    chosen = worst_edits(experiment, results) if experiment.worst_edits else []
    if not chosen:
        return list(results)
    rows = [list(EDITS).index(edit) for edit in chosen]
    found = []
    for result in results:
        if result.phase == "test":
            right = by_edit(result)[rows].reshape(-1)
            scores, correct = {**result.scores, WORST: float(right.mean())}, {**result.correct, WORST: right}
            found.append(result.model_copy(update={"scores": scores, "correct": correct}))
        else:
            found.append(result)
    return found


def by_edit(result: TrialResult) -> np.ndarray:
    """Return which items of the compositional test a run got right: bool [edits, pictures of an edit]."""
    return result.correct[COMPOSITION].reshape(len(EDITS), PICTURES_PER_EDIT)
