"""Rank correlation over runs of the generators' coordinates with Delta_MTL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import permutation_test, spearmanr

FEWEST = 4  # runs; with fewer, no correlation is reported


def correlations(coordinates: Sequence[Mapping[str, float]], delta: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return Spearman's rho of each coordinate with Delta_MTL over the runs: {coordinate: {rho, p, runs}}.

    p is that of a two-sided permutation test, exact for few runs. A coordinate that does not vary is left out.
    """
    found = {}
    for name in dict.fromkeys(key for one in coordinates for key in one):
        rows = [i for i, one in enumerate(coordinates) if name in one]
        x, y = np.array([coordinates[i][name] for i in rows]), np.array([delta[i] for i in rows])
        if len(rows) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        test = permutation_test(
            (x,), lambda x, y=y: spearmanr(x, y)[0], permutation_type="pairings",
            n_resamples=9999, rng=np.random.default_rng(0),
        )  # fmt: skip
        found[name] = {"rho": round(float(test.statistic), 4), "p": round(float(test.pvalue), 4), "runs": len(rows)}
    return found


def coordinates(analysis: Mapping[str, Any]) -> dict[str, float]:
    """Return the coordinates of a run's ensemble, one number per axis that its analysis has."""
    ensemble, generators = analysis["ensemble"], analysis["generators"].values()
    found = {}
    for judge in ("oracle", "prototype"):
        proportions = [g[judge]["share"] for g in generators if judge in g]
        if proportions:
            found[f"recognizability ({judge})"] = float(np.mean(proportions))
    if "diversity" in ensemble:
        found["diversity of the ensemble"] = ensemble["diversity"]["mean"]
    own = [g["diversity"]["mean"] for g in generators if "diversity" in g]
    if own:
        found["diversity within a generator"] = float(np.mean(own))
    if "between_share" in ensemble:
        found["share between generators"] = ensemble["between_share"]
    if "spectral_distance" in ensemble:
        found["spectral distance"] = ensemble["spectral_distance"]
    if "clip_score" in next(iter(generators), {}):
        found["CLIPScore"] = float(np.mean([g["clip_score"]["mean"] for g in generators]))
    return found
