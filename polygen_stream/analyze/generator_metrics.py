"""Metrics of each generator and of the ensemble: recognizability, diversity, spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import bootstrap

from polygen_stream.analyze.diversity import scatter, unbiased_std, vendi_score
from polygen_stream.analyze.image_set import ImageSet
from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.analyze.recognition import prototype_right
from polygen_stream.analyze.spectra import (
    high_frequency_share,
    normalised_spectrum,
    slope,
    spectral_distance,
    spectral_distances,
)


def generator_metrics(
    image_set: ImageSet,
    features: np.ndarray | None,
    classes: np.ndarray,
    *,
    read: np.ndarray | None = None,
    clip_scores: np.ndarray | None = None,
    reference: np.ndarray | None = None,
) -> dict[str, object]:
    """Measure every generator and the ensemble.

    Args:
        image_set: n images.
        features: float [n, d] of a model that no run trains; None leaves diversity and prototypes out.
        classes: int64 [n], caption or concept; diversity is that of the images of one class by one generator.
        read: float [n], 1.0 where an oracle reads the caption in the image (NaN: not judged).
        clip_scores: float [n].
        reference: images uint8 [m, side, side, 3] whose spectrum the generators' are compared with.

    Returns:
        {"generators": {name: figures}, "ensemble": figures} and, with a reference, "reference_spectrum"; for JSON.
    """
    recognised = None if features is None else prototype_right(features, classes, image_set.generator)
    target = None if reference is None else normalised_spectrum(reference)
    spectra = {}
    figures: dict[str, dict[str, object]] = {}
    for index, name in enumerate(image_set.generators):
        mine = image_set.generator == index
        if not mine.any():
            continue
        spectra[name] = normalised_spectrum(image_set.images[mine])
        figures[name] = {
            "pictures": int(mine.sum()),
            **({} if recognised is None else {"prototype": proportion_with_interval(recognised[mine])}),
            **({} if read is None else {"oracle": proportion_with_interval(read[mine])}),
            **({} if clip_scores is None else {"clip_score": _mean(clip_scores[mine])}),
            **({} if features is None else _diversity(features[mine], classes[mine])),
            **_spectral(image_set.images[mine], spectra[name], target),
        }
    ensemble: dict[str, object] = {
        "pictures": len(image_set.images),
        **(
            {}
            if features is None
            else {**_diversity(features, classes), **_between(features, classes, image_set.generator)}
        ),
        **_spectral(image_set.images, normalised_spectrum(image_set.images), target),
        "distances": spectral_distances(spectra),
    }
    found: dict[str, object] = {"generators": figures, "ensemble": ensemble}
    return found if target is None else {**found, "reference_spectrum": target.round(4).tolist()}


def _diversity(features: np.ndarray, classes: np.ndarray) -> dict[str, object]:
    """Mean over classes of their images' unbiased std, with a bootstrap interval, and of their Vendi score.

    The Vendi score grows with the number of images: it is taken per image, between 1 / n and 1.
    """
    parts = [features[classes == c] for c in np.unique(classes)]
    parts = [part for part in parts if len(part) >= 2]
    if not parts:
        return {}
    vendi = float(np.mean([vendi_score(part) / len(part) for part in parts]))
    return {"diversity": _mean(np.array([unbiased_std(part) for part in parts])), "vendi_share": round(vendi, 4)}


def _between(features: np.ndarray, classes: np.ndarray, generators: np.ndarray) -> dict[str, float]:
    try:
        split = scatter(features, classes, generators)
    except ValueError:  # no class has enough images
        return {}
    return {
        "between_share": round(split.between_share, 4),
        "between_share_if_one_generator": round(split.expected_share, 4),
    }


def _spectral(images: np.ndarray, spectrum: np.ndarray, target: np.ndarray | None) -> dict[str, object]:
    return {
        "spectrum": spectrum.round(4).tolist(),
        "slope": round(slope(spectrum), 3),
        "high_frequency_share": round(high_frequency_share(images), 5),
        **({} if target is None else {"spectral_distance": round(spectral_distance(spectrum, target), 4)}),
    }


def _mean(values: np.ndarray) -> Mapping[str, float]:
    """Mean with a 95 % bootstrap interval (none for a single value)."""
    low = mean = high = float(values.mean())
    if len(values) > 1 and np.ptp(values) > 0:
        found = bootstrap((values,), np.mean, rng=np.random.default_rng(0), method="percentile").confidence_interval
        low, high = float(found.low), float(found.high)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4), "n": len(values)}
