"""The sample grid: images of some of the run's captions by each generator, negatives beside positives."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from polygen_stream.ring import DrawnGroup, Kind


@dataclass(frozen=True)
class CaptionSample:
    """One caption and its images, as (generator index, uint8 [h, w, 3]); `negatives` is empty for a plain caption."""

    caption: str
    negative: str | None
    positives: list[tuple[int, np.ndarray]]
    negatives: list[tuple[int, np.ndarray]]


def pick_samples(
    groups: Sequence[DrawnGroup], count: int, read: Callable[[Sequence[int]], Mapping[int, np.ndarray]]
) -> list[CaptionSample]:
    """Pick captions evenly over the given order; captions with a hard negative are preferred.

    Args:
        groups: complete groups of a ring.
        count: most captions to pick.
        read: slots -> {slot: image}; slots it leaves out are missing in the sample.
    """
    pairs = [g for g in groups if g.kind is Kind.PAIR]
    plain = [g for g in groups if g.kind is Kind.PLAIN]
    chosen = _evenly(pairs, count - min(len(plain), count // 4))
    chosen = _evenly(plain, count - len(chosen)) + chosen
    samples = [
        CaptionSample(
            g.caption,
            g.negative,
            _pictures(read, g.positive_generators, g.positive_slots),
            _pictures(read, g.negative_generators, g.negative_slots),
        )
        for g in chosen
    ]
    return [sample for sample in samples if sample.positives]


def draw_samples(samples: Sequence[CaptionSample], generators: Sequence[str]) -> Figure:
    """Draw one row per caption: its images by generator on the left, those of its hard negative on the right."""
    most = max(len(sample.positives) for sample in samples)
    width = max(4.2, 0.95 * most)  # inches of one half; a caption needs four
    figure, axes = plt.subplots(
        len(samples), 2, figsize=(2 * width, 1.4 * len(samples)), squeeze=False, layout="constrained"
    )
    for row, sample in zip(axes, samples, strict=True):
        halves = (("T+", sample.caption, sample.positives), ("T-", sample.negative, sample.negatives))
        for cell, (sign, caption, pictures) in zip(row, halves, strict=True):
            if caption is None or not pictures:
                cell.set_axis_off()
                continue
            side = pictures[0][1].shape[0]
            gap = np.full((side, side // 16, 3), 255, np.uint8)
            cell.imshow(np.concatenate([part for _, image in pictures for part in (image, gap)], 1))
            cell.set_title("\n".join(textwrap.wrap(f"{sign}  {caption}", 62)), fontsize=7, loc="left")
            centres = [side / 2 + i * (side + side // 16) for i in range(len(pictures))]
            cell.set_xticks(centres, [generators[g].rpartition("/")[2] for g, _ in pictures], fontsize=6)
            cell.set_yticks([])
            cell.tick_params(length=0, pad=1)
            cell.spines[:].set_visible(False)
    return figure


def _pictures(
    read: Callable[[Sequence[int]], Mapping[int, np.ndarray]], generators: Sequence[int], slots: Sequence[int]
) -> list[tuple[int, np.ndarray]]:
    """In the order of generators, so that a column is one generator."""
    pictures = read(slots)
    found = [(generator, pictures[slot]) for generator, slot in zip(generators, slots, strict=True) if slot in pictures]
    return sorted(found, key=lambda pair: pair[0])


def _evenly(groups: Sequence[DrawnGroup], count: int) -> list[DrawnGroup]:
    if not groups or count < 1:
        return []
    index = np.unique(np.linspace(0, len(groups) - 1, min(count, len(groups))).round().astype(int))
    return [groups[i] for i in index]
