"""Division of GPUs among generators, so that every generator renders equally many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

SLIVER = 0.08  # of a GPU: less does not justify a process with its weights


@dataclass(frozen=True)
class Allocation:
    """A division of GPUs among generators.

    Attributes:
        gpus: Generator -> indices of the GPUs with one of its processes.
        per_s: Images per second of each generator.
        shares: (generator, GPU) -> fraction of the GPU's time.
    """

    gpus: Mapping[str, tuple[int, ...]]
    per_s: float
    shares: Mapping[tuple[str, int], float]

    @property
    def images_per_s(self) -> float:
        """Images per second of all generators together."""
        return self.per_s * len(self.gpus)


def allocate(rates: Mapping[str, float], gpus: Sequence[int]) -> Allocation:
    """Divide GPUs so that every generator renders the same number of images per second, as many as possible.

    Of n GPUs a generator of rate v needs the share (1 / v) / sum(1 / v). Laid end to end on the n GPUs, the slowest
    first (McNaughton's wrap-around rule), these shares use every GPU fully, and at most one GPU is shared at each
    border. Borders that would leave a process less than SLIVER of a GPU are moved; the shares that remain are then
    found by a linear program.

    Args:
        rates: Images per second of a whole GPU, by generator.
        gpus: Indices of the GPUs.
    """
    names = sorted(rates, key=lambda name: rates[name])
    whole, at = sum(1 / rate for rate in rates.values()), 0.0
    placed: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        end = at + len(gpus) / rates[name] / whole
        spans = {g: min(end, g + 1) - max(at, g) for g in range(len(gpus)) if min(end, g + 1) - max(at, g) > 1e-9}
        large = {g: span for g, span in spans.items() if span >= SLIVER}
        placed[name] = sorted(large or {max(spans, key=spans.__getitem__)})
        at = end
    pairs = [(name, g) for name in names for g in placed[name]]
    shares, per_s = _balance(pairs, rates, names, len(gpus))
    return Allocation(
        {name: tuple(gpus[g] for g in placed[name]) for name in rates},
        per_s,
        {(name, gpus[g]): share for (name, g), share in zip(pairs, shares, strict=True)},
    )


def _balance(
    pairs: Sequence[tuple[str, int]], rates: Mapping[str, float], names: Sequence[str], gpus: int
) -> tuple[list[float], float]:
    """Return the shares of GPU time that maximise the common rate of the generators, and that rate."""
    columns = len(pairs) + 1  # the last one is what each generator makes
    equal = np.zeros((len(names), columns))
    most = np.zeros((gpus, columns))
    for column, (name, g) in enumerate(pairs):
        equal[names.index(name), column] = rates[name]
        most[g, column] = 1
    equal[:, -1] = -1
    goal = np.zeros(columns)
    goal[-1] = -1
    found = linprog(goal, A_ub=most, b_ub=np.ones(gpus), A_eq=equal, b_eq=np.zeros(len(names)))
    return found.x[:-1].tolist(), float(found.x[-1])
