"""The choice of the next task among the ledger's next ones, by the weights of a policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import key
from polygen_stream.config import RunConfig
from polygen_stream.ring import Feedback
from polygen_stream.schedule.choice import Choice
from polygen_stream.schedule.ledger import CaptionTask, Ledger
from polygen_stream.synthesis.policy import Weights, load_policy
from polygen_stream.synthesis.rows import FeedbackRows


class TaskChooser:
    """Gives out the tasks of a ledger in the order of their ids, and passes over those that a policy wants less.

    A task stays the same function of seed and task id: a policy decides which ids are used and nothing else.

    Args:
        config: of the run.
        ledger: its tasks.
        rows: names of the feedback board.

    Raises:
        UserError: the policy cannot be loaded.
    """

    def __init__(self, config: RunConfig, ledger: Ledger, rows: FeedbackRows) -> None:
        self._config, self._ledger, self._rows = config, ledger, rows
        self._policy = None if config.synthesis.policy == "uniform" else load_policy(config.synthesis)
        self._weights, self._step = Weights(), -1

    def update(self, feedback: Feedback) -> Weights:
        """Ask the policy what is wanted now, and return its answer.

        Raises:
            UserError: a weight is not a positive number.
        """
        if self._policy is not None:
            self._weights, self._step = checked(self._policy.weights(feedback), self._config), feedback.step
        return self._weights

    def next(self, first: int) -> tuple[CaptionTask, Choice | None]:
        """Return the next task, with an id of `first` or more, and why it was chosen if a policy did.

        On one of N nodes, candidates are N ids apart, like its tasks.
        """
        if self._policy is None:
            return self._ledger.task(first), None
        synthesis, nodes = self._config.synthesis, self._config.launch.nodes
        tasks = [self._ledger.task(first + nodes * number) for number in range(synthesis.candidates)]
        weights = [self._weight(task) for task in tasks]
        number = choose(weights, synthesis.uniform_share, self._config.seed, "choice", first)
        mean = sum(weights) / len(weights)
        return tasks[number], Choice(self._step, len(tasks), round(weights[number] / mean, 4))

    def _weight(self, task: CaptionTask) -> float:
        names = [self._config.generators.names[generator] for generator in task.generators]
        return task_weight(self._weights, task.axis, self._rows.name_of_concept(task.concept), names)


def choose(weights: Sequence[float], uniform_share: float, *keys: int | str) -> int:
    """Return the number of the candidate that is taken, drawn by the keys.

    In a share of the draws it is the first candidate, whatever it weighs; otherwise each has a chance in proportion to
    its weight. It is the first one, too, if all weigh the same: what knows nothing changes nothing.

    Args:
        weights: of the candidates, all positive.
        uniform_share: in 0..1.
        keys: of the draw.
    """
    if min(weights) == max(weights) or key(*keys, "uniform") / 2**64 < uniform_share:
        return 0
    bounds = list(accumulate(weights))
    at = key(*keys, "weighted") / 2**64 * bounds[-1]
    return next((number for number, bound in enumerate(bounds) if at < bound), len(bounds) - 1)


def task_weight(weights: Weights, axis: str, concept: str, generators: Sequence[str]) -> float:
    """Return the weight of a task.

    Args:
        weights: of a policy.
        axis: its axis.
        concept: name of the feedback board's row for its concept.
        generators: of its images.
    """
    by_generator = sum(weights.generators.get(name, 1.0) for name in generators) / len(generators)
    return weights.axes.get(axis, 1.0) * weights.concepts.get(concept, 1.0) * by_generator


def checked(weights: Weights, config: RunConfig) -> Weights:
    """Return the weights of a policy.

    Raises:
        UserError: one is not a positive number.
    """
    for factor in ("axes", "concepts", "generators"):
        for name, weight in getattr(weights, factor).items():
            if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
                raise UserError(
                    f"synthesis.policy = {config.synthesis.policy!r} gave {name!r} of {factor} the weight "
                    f"{weight!r}: weights are positive numbers, and what is not named weighs 1"
                )
    return weights
