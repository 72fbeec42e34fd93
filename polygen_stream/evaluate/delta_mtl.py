"""Delta_MTL: how much better a model is than a reference over several tasks, in percent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import NormalDist

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.score import Score

# SynthCLIP's five tasks: Delta_MTL of experiments and reports is over these, as far as they are scored.
TASK_LABELS: dict[str, str] = {
    "zero_shot": "zero-shot",
    "linear_probe": "linear probe",
    "few_shot": "few-shot",
    "image_to_text_r1": "image-to-text R@1",
    "text_to_image_r1": "text-to-image R@1",
}
TASKS = tuple(TASK_LABELS)
# (kind of a task of `evaluate`, its score) -> which of the five it is.
_KINDS = {
    ("zero_shot", "acc1"): "zero_shot",
    ("linear_probe", "acc1"): "linear_probe",
    ("few_shot", "5_shot"): "few_shot",
    ("retrieval", "i2t_r1"): "image_to_text_r1",
    ("retrieval", "t2i_r1"): "text_to_image_r1",
}
_SUITE = {
    "zero_shot_things": "zero_shot",
    "retrieval_i2t_r1": "image_to_text_r1",
    "retrieval_t2i_r1": "text_to_image_r1",
}


def synthclip_task(task: str, score: str) -> str | None:
    """Return which of TASKS a score is, None if it is none of them.

    Args:
        task: KIND or KIND:DATASET as in `evaluate`, or "" for a score of the micro suite.
        score: the score's name there.
    """
    return _SUITE.get(score) if not task else _KINDS.get((task.partition(":")[0], score))


def named_tasks(tasks: Collection[str]) -> str:
    """Return in words what a Delta_MTL over some of TASKS is over."""
    if set(tasks) == set(TASKS):
        return "SynthCLIP's five tasks"
    return f"{len(tasks)} of SynthCLIP's five tasks: {', '.join(TASK_LABELS[task] for task in TASKS if task in tasks)}"


def delta_mtl(scores: Mapping[str, float], baseline: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Mean relative change over the tasks of `baseline`, and that of each task, in percent.

    `100 / T * sum_t (M_t - B_t) / B_t`, every task higher-is-better (Vandenhende et al. 2021;
    SimonVandenhende/Multi-Task-Learning-PyTorch:evaluation/evaluate_utils.py, as SynthCLIP uses it). A task whose
    baseline is small dominates the mean: look at the terms.

    Raises:
        UserError: a task is missing from `scores`, or its baseline is not positive.
    """
    terms = {}
    for task, reference in baseline.items():
        if task not in scores:
            raise UserError(f"Delta_MTL: the baseline has {task}, the other scores have {', '.join(scores)}")
        if not reference > 0:
            raise UserError(f"Delta_MTL: the baseline of {task} is {reference}; relative change needs it above 0")
        terms[task] = 100 * (scores[task] - reference) / reference
    return sum(terms.values()) / len(terms), terms


def delta_mtl_interval(
    scores: Mapping[str, Score], baseline: Mapping[str, Score], draws: int = 4000
) -> tuple[float, float]:
    """95 % interval of `delta_mtl` by a parametric bootstrap of both models' scores, task by task.

    A score is drawn from a normal distribution as wide as its own interval, within 0..1. The two models are drawn
    independently, although they answered the same questions: the interval is wider than a paired one would be. It
    covers the choice of test questions, not of seeds.
    """
    random = np.random.default_rng(0)

    def drawn(score: Score) -> np.ndarray:
        wide = (score.high - score.low) / (2 * NormalDist().inv_cdf(0.975))
        return random.normal(score.score, wide, draws).clip(1e-6, 1)

    terms = []
    for task, reference in baseline.items():
        before = drawn(reference)
        terms.append(100 * (drawn(scores[task]) - before) / before)
    low, high = np.percentile(np.mean(terms, axis=0), [2.5, 97.5])
    return float(low), float(high)
