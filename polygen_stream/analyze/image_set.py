"""Images to analyse and which generator rendered which caption; from a ring, or rendered for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.ring import DrawnGroup

if TYPE_CHECKING:
    from polygen_stream.generators.pipelines import Generator  # imports diffusers, which the report never needs

BATCH = 32


@dataclass(frozen=True)
class ImageSet:
    """n images by several generators.

    Attributes:
        images: uint8 [n, side, side, 3].
        generator: int64 [n], index into `generators`.
        caption: int64 [n], index into `captions`.
        concepts: what each caption is about.
    """

    images: np.ndarray
    generator: np.ndarray
    caption: np.ndarray
    generators: tuple[str, ...]
    captions: tuple[str, ...]
    concepts: tuple[str, ...]

    @property
    def concept(self) -> np.ndarray:
        """int64 [n]: a number per concept."""
        names = {name: i for i, name in enumerate(dict.fromkeys(self.concepts))}
        return np.array([names[c] for c in self.concepts])[self.caption]


def images_of_groups(
    groups: Sequence[DrawnGroup],
    read: Callable[[Sequence[int]], Mapping[int, np.ndarray]],
    generators: Sequence[str],
    concepts: Mapping[int, str],
    most: int,
) -> ImageSet | None:
    """Return positives of ring groups, evenly over the groups; None if there are none.

    Args:
        groups: complete groups of a ring.
        read: slots -> {slot: image}; slots it leaves out are left out here.
        generators: names, by index.
        concepts: task id -> what its caption is about; groups of other tasks are left out.
        most: images, at most about.
    """
    groups = [g for g in groups if g.task_id in concepts]
    if not groups:
        return None
    each = max(1, max(len(g.positive_slots) for g in groups))
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, max(1, most // each)).round().astype(int))]
    images, generator, caption = [], [], []
    for index, group in enumerate(chosen):
        found = read(group.positive_slots)
        for slot, which in zip(group.positive_slots, group.positive_generators, strict=True):
            if slot in found:
                images.append(found[slot])
                generator.append(which)
                caption.append(index)
    if not images:
        return None
    return ImageSet(
        np.stack(images), np.array(generator), np.array(caption), tuple(generators),
        tuple(g.caption for g in chosen), tuple(concepts[g.task_id] for g in chosen),
    )  # fmt: skip


def render_images(
    generators: Mapping[str, Generator], captions: Sequence[str], concepts: Sequence[str], seeds: int, seed: int
) -> ImageSet:
    """Render every caption by every generator `seeds` times, with noise that no run has used."""
    images, generator, caption = [], [], []
    texts = [text for text in captions for _ in range(seeds)]
    for index, one in enumerate(generators.values()):
        noise = [seeding.key(seed, "analysis", index, i) >> 1 for i in range(len(texts))]
        images += [one.render(texts[i : i + BATCH], noise[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        generator += [index] * len(texts)
        caption += [i for i in range(len(captions)) for _ in range(seeds)]
    return ImageSet(
        np.concatenate(images), np.array(generator), np.array(caption), tuple(generators),
        tuple(captions), tuple(concepts),
    )  # fmt: skip
