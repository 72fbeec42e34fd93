"""Delta_MTL of the arms, and the differences that were asked about, with intervals over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from polygen_stream.evaluate.delta_mtl import delta_mtl
from polygen_stream.experiment.measures import TASKS
from polygen_stream.experiment.spec import Experiment

COMPOSITION = "compositional"
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its 95 % t interval; NaN bounds where there is one seed."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True)
class ArmDifference:
    """Of a contrast in one outcome: paired by seed; p of a t test, and after Holm's correction over all of a page."""

    arm: str
    against: str
    question: str
    outcome: str
    estimate: Estimate
    p: float
    p_holm: float


def delta_by_seed(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Percent, one row per arm and seed: columns delta_mtl, each of the tasks, and compositional.

    Relative to the baseline's run of the same seed, in units of its mean over seeds: what a seed does to both cancels
    out, and no lucky small denominator counts more than another. The baseline's own rows are 0.
    """
    tested = rows[rows.phase == "test"].set_index(["arm", "seed"])
    outcomes = [*TASKS, COMPOSITION]
    means = tested.loc[baseline][outcomes].mean()
    out = []
    for (arm, seed), row in tested.iterrows():
        if seed not in tested.loc[baseline].index:
            continue
        # M_t - B_t of the seed, put on top of the mean of B_t
        scores = means + row[outcomes].astype(float) - tested.loc[(baseline, seed)][outcomes].astype(float)
        total, terms = delta_mtl(scores[list(TASKS)].to_dict(), means[list(TASKS)].to_dict())
        composition = 100 * (scores[COMPOSITION] - means[COMPOSITION]) / means[COMPOSITION]
        out.append({"arm": arm, "seed": seed, "delta_mtl": total, **terms, COMPOSITION: composition})
    return pd.DataFrame(out)


def estimate(values: np.ndarray) -> Estimate:
    values = np.asarray(values, float)
    mean, n = values.mean(), len(values)
    if n < 2:
        return Estimate(float(mean), float("nan"), float("nan"), n)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
    return Estimate(float(mean), float(low), float(high), n)


def differences(experiment: Experiment, deltas: pd.DataFrame) -> list[ArmDifference]:
    """Every contrast in Delta_MTL and in composition, over the seeds that both arms have."""
    found = []
    for contrast in experiment.contrasts:
        for outcome in ("delta_mtl", COMPOSITION):
            values = deltas.pivot(index="seed", columns="arm", values=outcome)
            if not {contrast.arm, contrast.against} <= set(values.columns):
                continue
            paired = (values[contrast.arm] - values[contrast.against]).dropna().to_numpy()
            if len(paired) >= 2:
                found.append((contrast, outcome, estimate(paired), float(stats.ttest_1samp(paired, 0).pvalue)))
    if not found:
        return []
    corrected = multipletests([p for *_, p in found], method="holm")[1]
    return [
        ArmDifference(contrast.arm, contrast.against, contrast.question, outcome, value, p, float(holm))
        for (contrast, outcome, value, p), holm in zip(found, corrected, strict=True)
    ]
