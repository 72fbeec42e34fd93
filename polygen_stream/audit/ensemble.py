"""The two points that the audit's generators are seen beside: all of them together, and the painter's own pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.analyze.spectra import normalised_spectrum, radial_spectrum
from polygen_stream.audit.generators import (
    PICTURES_PER_CAPTION,
    GeneratorAudit,
    all_right,
    captions_of_diversity,
    diversity_figures,
    single_requests,
)
from polygen_stream.base import seeding
from polygen_stream.micro.oracle import Oracle
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Scene, Split


def audit_ensemble(audits: Sequence[GeneratorAudit]) -> dict[str, object]:
    """Recognizability and diversity of pictures that all generators drew, as JSON can hold them.

    Recognizability is that of their pictures together, the mean of theirs. Diversity is that of as many pictures per
    caption as of a single generator, one of each generator in turn.

    Args:
        audits: Of one call's captions and number of pictures.
    """
    chosen = [audits[i % len(audits)].features[:, i] for i in range(PICTURES_PER_CAPTION)]
    return {
        "recognizability": proportion_with_interval(np.concatenate([audit.recognised for audit in audits])),
        "diversity": diversity_figures(np.stack(chosen, axis=1)),
    }


def audit_painter(oracle: Oracle, pictures: int, seed: int = 0) -> GeneratorAudit:
    """Recognizability, diversity and spectrum of painted pictures, for the captions that a generator is asked.

    A caption names all that its scene has, so the painter paints the scene: what differs between two pictures of a
    caption is what the micro world's real pictures leave open (place, pose, shape, tint, noise).

    Args:
        oracle: Reads the pictures.
        pictures: As for `audit_generator`.
        seed: As for `audit_generator`.
    """
    half = max(1, pictures // 2)
    right, images = [], []
    for split in Split:
        requests = single_requests(half, split, seed)
        images.append(_painted([request.scene for request in requests], seed, split.value))
        right.append(all_right(oracle.read(images[-1]), requests))
    requests = single_requests(captions_of_diversity(pictures), Split.SEEN, seed + 1)
    scenes = [request.scene for request in requests for _ in range(PICTURES_PER_CAPTION)]
    features = oracle.features(_painted(scenes, seed, "diversity")).reshape(len(requests), PICTURES_PER_CAPTION, -1)
    painted = np.concatenate(images)
    figures = {
        "recognizability": {
            **proportion_with_interval(np.concatenate(right)),
            "seen": proportion_with_interval(right[0]),
            "unseen": proportion_with_interval(right[1]),
        },
        "diversity": diversity_figures(features),
        "spectrum": radial_spectrum(painted).round(4).tolist(),
    }
    return GeneratorAudit(figures, np.concatenate(right), features, normalised_spectrum(painted))


def _painted(scenes: Sequence[Scene], seed: int, name: str) -> np.ndarray:
    return np.stack([paint(scene, seeding.rng(seed, "audit painter", name, i)) for i, scene in enumerate(scenes)])
