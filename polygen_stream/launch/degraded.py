"""What a run is without some of its generators, in words."""

from __future__ import annotations

from collections.abc import Collection
from math import comb

from polygen_stream.config import RunConfig


def without(config: RunConfig, down: Collection[str]) -> str:
    """Return what the loss of generators does to captions from now on, and to the balance of the ensemble.

    The ledger spreads the n+ pictures of a caption evenly over m generators: each gets floor(n+/m) of them, and a
    random n+ mod m get one more. Of d lost ones, a caption keeps the share (m - d)/m of its pictures on average; it
    loses all of them if every generator it asked for is among the lost, which needs n+ <= d.
    """
    m, d, positives = len(config.generators.recipes), len(down), config.generators.positives
    names = ", ".join(sorted(down))
    text = (
        f"without {names}: new captions have {positives * (m - d) / m:.3g} of {positives} pictures on average, and "
        f"each of the other {m - d} generators makes {100 / (m - d):.3g} % of the pictures instead of {100 / m:.3g} %"
    )
    if positives <= d:
        lost = comb(d, positives) / comb(m, positives)
        text += f"; {100 * lost:.3g} % of the captions asked for nothing else and are dropped"
    return text
