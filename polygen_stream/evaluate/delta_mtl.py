"""Delta_MTL: how much better a model is than a reference over several tasks, in percent."""

from __future__ import annotations

from collections.abc import Mapping

from polygen_stream.errors import UserError


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
