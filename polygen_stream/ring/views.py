"""Views: which of the images that exist of a text a draw takes.

A draw takes n of the V images of a text (RingSpec.images_per_draw), by a keyed choice without repetition: n at a time
until all were taken, then anew in another order. Where n does not divide V, a draw at the border takes the rest of one
order and the start of the next, never an image twice; after V / gcd(V, n) draws all were taken equally often. The
choice is a function of (seed, task, polarity, number of the draw), so that no order has to be kept. A deterministic
ring takes the step for the number of the draw: there an image comes again early if draws of its text skip steps.

This is the multi-positive data set of PolyGen's first author, in which n+ images of a caption come into a batch and a
caption has V of them over time; n = V is StableRep's (arXiv 2306.00984).
"""

from __future__ import annotations

import math

import numpy as np

from polygen_stream.base.seeding import key, mixed


def chosen_views(
    seed: int, polarity: int, tasks: np.ndarray, turns: np.ndarray, views: np.ndarray, per_draw: int
) -> np.ndarray:
    """Choose the images that a draw takes of some texts.

    Args:
        seed: of the run.
        polarity: of the texts, a Polarity.
        tasks: task id of each text, int64 [n].
        turns: number of the draw of each text, from 0 on, int64 [n].
        views: whether each of at most M images of each text exists, bool [n, M].
        per_draw: most images that a draw takes of a text; 0 = all.

    Returns:
        Which images the draw takes, bool [n, M]: `per_draw` of every text, or all where fewer exist.
    """
    counts = views.sum(axis=1)
    if not per_draw or (counts <= per_draw).all():
        return views
    chosen = views.copy()
    salt = key("ring.views", seed, polarity)
    for row in np.flatnonzero(counts > per_draw).tolist():
        there = np.flatnonzero(views[row])
        cycle, turn = divmod(int(turns[row]), there.size // math.gcd(there.size, per_draw))
        chosen[row] = False
        chosen[row, there[_taken(salt, int(tasks[row]), cycle, turn, there.size, per_draw)]] = True
    return chosen


def _taken(salt: int, task: int, cycle: int, turn: int, views: int, per_draw: int) -> list[int]:
    """Return the images of one draw of a cycle, after which all were taken equally often: one order after the other."""
    taken: list[int] = []
    while len(taken) < (turn + 1) * per_draw:
        order = _order(key(salt, task, cycle, len(taken) // views), views)
        if begun := len(taken) % per_draw:  # images that the draw at the border has of the order before
            first = [view for view in order if view not in taken[-begun:]][: per_draw - begun]
            order = first + [view for view in order if view not in first]
        taken += order
    return taken[turn * per_draw : (turn + 1) * per_draw]


def _order(salt: int, views: int) -> list[int]:
    return np.argsort(mixed(np.arange(views), salt)).tolist()
