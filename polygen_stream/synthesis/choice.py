"""The choice of the next task among the ledger's next ones, by the weights of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from polygen_stream.base.seeding import key
from polygen_stream.config import RunConfig
from polygen_stream.ring import Feedback
from polygen_stream.schedule.choice import Choice
from polygen_stream.schedule.ledger import CaptionTask, Ledger
from polygen_stream.synthesis.policy import NO_WEIGHTS, Policy, Weights, ask, load_policy
from polygen_stream.synthesis.rows import FeedbackRows


class NextTask(NamedTuple):
    """A task, why it was chosen if a policy did, and the id from which the task after it comes."""

    task: CaptionTask
    choice: Choice | None
    following: int


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
        self._policy: Policy | None = None
        if config.synthesis.policy != "uniform":
            self._policy = load_policy(config.synthesis)
        self._weights, self._step = NO_WEIGHTS, -1

    def update(self, feedback: Feedback) -> Weights:
        """Ask the policy what is wanted now, and return its answer.

        Raises:
            UserError: it fails, or answers something else than positive numbers.
        """
        if self._policy is not None:
            self._weights, self._step = ask(self._policy, feedback, self._config.synthesis), feedback.step
        return self._weights

    def next(self, first: int) -> NextTask:
        """Return the next task, with an id of `first` or more.

        It is chosen among `synthesis.candidates` tasks, and the others of them are passed over for good, so that one
        choice does not depend on another. While the policy wants nothing, tasks come one by one. On one of N nodes,
        candidates are N ids apart, like its tasks.
        """
        synthesis, nodes = self._config.synthesis, self._config.launch.nodes
        if self._policy is None or self._weights == NO_WEIGHTS:
            choice = None if self._policy is None else Choice(self._step, 1, 1.0)
            return NextTask(self._ledger.task(first), choice, first + nodes)
        tasks = [self._ledger.task(first + nodes * number) for number in range(synthesis.candidates)]
        weights = [self._weight(task) for task in tasks]
        number = choose(weights, synthesis.uniform_share, self._config.seed, "choice", first)
        relative = weights[number] / (sum(weights) / len(weights))
        return NextTask(tasks[number], Choice(self._step, len(tasks), round(relative, 4)), first + nodes * len(tasks))

    def _weight(self, task: CaptionTask) -> float:
        names = [self._config.generators.names[generator] for generator in task.generators]
        return task_weight(self._weights, self._rows, task.axis, task.concept, names)


def choose(weights: Sequence[float], uniform_share: float, *keys: int | str) -> int:
    """Return the number of the candidate that is taken, drawn by the keys.

    In a share of the draws it is the first candidate, whatever it weighs; otherwise each has a chance in proportion to
    its weight.

    Args:
        weights: of the candidates, all positive.
        uniform_share: in 0..1.
        keys: of the draw.
    """
    if key(*keys, "uniform") / 2**64 < uniform_share:
        return 0
    bounds = list(accumulate(weights))
    at = key(*keys, "weighted") / 2**64 * bounds[-1]
    return next((number for number, bound in enumerate(bounds) if at < bound), len(bounds) - 1)


def task_weight(weights: Weights, rows: FeedbackRows, axis: str, concept: str, generators: Sequence[str]) -> float:
    """Return the weight of a task.

    Args:
        weights: of a policy.
        rows: names of the feedback board.
        axis: its axis.
        concept: its concept.
        generators: of its images.
    """
    by_generator = sum(weights.generators.get(name, 1.0) for name in generators) / len(generators)
    of_axis = weights.axes.get(rows.name_of_axis(axis), 1.0)
    return of_axis * weights.concepts.get(rows.name_of_concept(concept), 1.0) * by_generator
