"""Diversity of images of one caption, and how much of it comes from seeds and from generators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def unbiased_std(features: np.ndarray) -> float:
    """Return the diversity of the images of one caption: unbiased standard deviation of a feature, mean over features.

    Boutin et al. 2022 (serre-lab/diversity_vs_recognizability, utils/evaluation_tools.py), per class there and per
    caption here.

    Args:
        features: float [images, d], at least two images.
    """
    return float(features.std(axis=0, ddof=1).mean())


def vendi_score(features: np.ndarray) -> float:
    """Return the effective number of different images, 1..n: exp of the entropy of the eigenvalues of K / n.

    K is the cosine kernel (vertaix/Vendi-Score, vendi_score/vendi.py).

    Args:
        features: float [n, d].
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit)).clip(0)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


@dataclass(frozen=True)
class Scatter:
    """Sums of squared distances from the mean of a caption's images, over captions; within + between = total.

    Attributes:
        within: of images from the mean of their caption and generator.
        between: of those means from the mean of the caption.
        expected_share: proportion of `between` that is expected if all images were by one generator.
    """

    within: float
    between: float
    expected_share: float

    @property
    def between_share(self) -> float:
        """Proportion of `between` in the total."""
        return self.between / (self.within + self.between)


def scatter(features: np.ndarray, captions: np.ndarray, generators: np.ndarray) -> Scatter:
    """Split the scatter of features about their caption's mean, as in a one-way analysis of variance.

    Captions drawn by fewer than two generators tell nothing about either and are left out; so is a split in which no
    generator drew two pictures, where everything would be between.

    Raises:
        ValueError: no caption has two generators and a generator with two pictures.
    """
    within = between = expected = total = 0.0
    for caption in np.unique(captions):
        mine = captions == caption
        groups = [features[mine & (generators == g)] for g in np.unique(generators[mine])]
        pictures = sum(map(len, groups))
        if len(groups) < 2 or pictures == len(groups):
            continue
        centre = np.concatenate(groups).mean(0)
        caption_within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
        caption_between = sum(len(group) * ((group.mean(0) - centre) ** 2).sum() for group in groups)
        within, between = within + caption_within, between + caption_between
        expected += (caption_within + caption_between) * (len(groups) - 1) / (pictures - 1)
        total += caption_within + caption_between
    if not total:
        raise ValueError("no caption was drawn by two generators, one of them more than once")
    return Scatter(float(within), float(between), float(expected / total))
