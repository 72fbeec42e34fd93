"""The sample grid: what the generators made of some of the run's captions, negatives beside positives."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from polygen_stream.ring import DrawnGroup, Kind, Ring


@dataclass(frozen=True)
class Sample:
    """One caption and its pictures: {generator index: uint8 [h, w, 3]}; `negatives` is empty for a plain caption."""

    caption: str
    negative: str | None
    positives: dict[int, np.ndarray]
    negatives: dict[int, np.ndarray]


def pick_samples(ring: Ring, count: int) -> list[Sample]:
    """Up to `count` captions of the ring, evenly over task ids; captions with a hard negative are preferred."""
    groups = ring.groups_snapshot(ring.spec.groups)
    pairs = [g for g in groups if g.kind is Kind.PAIR]
    plain = [g for g in groups if g.kind is Kind.PLAIN]
    chosen = _evenly(pairs, count - min(len(plain), count // 4))
    chosen = _evenly(plain, count - len(chosen)) + chosen
    return [
        Sample(
            g.caption,
            g.negative,
            _pictures(ring, g.positive_generators, g.positive_slots),
            _pictures(ring, g.negative_generators, g.negative_slots),
        )
        for g in chosen
    ]


def draw_samples(samples: Sequence[Sample], generators: Sequence[str]) -> Figure:
    """Rows = captions; columns = generators, for the caption and then for its hard negative."""
    columns = 2 * len(generators)
    figure, axes = plt.subplots(
        len(samples), columns, figsize=(1.15 * columns, 1.45 * len(samples)), squeeze=False, layout="constrained"
    )
    for row, sample in zip(axes, samples, strict=True):
        halves = ((sample.caption, sample.positives), (sample.negative, sample.negatives))
        for half, (caption, pictures) in enumerate(halves):
            cells = row[half * len(generators) : (half + 1) * len(generators)]
            for index, cell in enumerate(cells):
                cell.set_axis_off()
                if index in pictures:
                    cell.imshow(pictures[index], interpolation="nearest")
            if caption:
                sign = "T-" if half else "T+"
                cells[0].set_title(f"{sign}  " + "\n".join(textwrap.wrap(caption, 58)), fontsize=7, loc="left")
    for index, name in enumerate([*generators, *generators]):
        axes[-1, index].text(0.5, -0.12, name, fontsize=7, ha="center", va="top", transform=axes[-1, index].transAxes)
    return figure


def _pictures(ring: Ring, generators: Sequence[int], slots: Sequence[int]) -> dict[int, np.ndarray]:
    return dict(zip(generators, ring.read(slots), strict=True)) if slots else {}


def _evenly(groups: Sequence[DrawnGroup], count: int) -> list[DrawnGroup]:
    if not groups or count < 1:
        return []
    index = np.unique(np.linspace(0, len(groups) - 1, min(count, len(groups))).round().astype(int))
    return [groups[i] for i in index]
