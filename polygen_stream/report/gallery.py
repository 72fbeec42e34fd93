"""A sample of a run's captions with their images, kept in the run folder after the ring is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from polygen_stream.report.samples import CaptionSample, pick_samples
from polygen_stream.ring import DrawnGroup

FORMAT = "polygen-stream gallery"
CAPTIONS = 60


@dataclass(frozen=True)
class Gallery:
    """Captions with the images that generators rendered of them and of their hard negatives."""

    samples: tuple[CaptionSample, ...]
    generators: tuple[str, ...]

    def positives(self) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Return the captions' images, uint8 [n, side, side, 3], and (generator, caption) of each."""
        found = [(image, (self.generators[g], s.caption)) for s in self.samples for g, image in s.positives]
        return np.stack([image for image, _ in found]), [about for _, about in found]


def of_ring(
    groups: Sequence[DrawnGroup],
    read: Callable[[Sequence[int]], Mapping[int, np.ndarray]],
    generators: Sequence[str],
) -> Gallery | None:
    """Return up to CAPTIONS captions of a ring, evenly over its groups; None if it holds no image."""
    samples = pick_samples(groups, CAPTIONS, read)
    return Gallery(tuple(samples), tuple(generators)) if samples else None


def save(gallery: Gallery, file: Path) -> None:
    """Write one safetensors file: the tensor `pictures`, and in the metadata the captions they belong to."""
    images: list[np.ndarray] = []

    def numbered(half: Iterable[tuple[int, np.ndarray]]) -> list[int]:
        generators = []
        for generator, image in half:
            generators.append(generator)
            images.append(image)
        return generators

    rows = [[s.caption, s.negative, numbered(s.positives), numbered(s.negatives)] for s in gallery.samples]
    about = {"format": FORMAT, "generators": json.dumps(gallery.generators), "samples": json.dumps(rows)}
    save_file({"pictures": np.stack(images)}, file, metadata=about)


def load(file: Path) -> Gallery | None:
    """Read a gallery; None if the file is missing, damaged or no gallery."""
    try:
        with safe_open(file, framework="numpy") as stored:
            about = stored.metadata() or {}
            if about.get("format") != FORMAT:
                return None
            images = iter(stored.get_tensor("pictures"))
        samples = []
        for caption, negative, positives, negatives in json.loads(about["samples"]):
            halves = [[(generator, next(images)) for generator in half] for half in (positives, negatives)]
            samples.append(CaptionSample(caption, negative, *halves))
        return Gallery(tuple(samples), tuple(json.loads(about["generators"])))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, StopIteration):
        return None
