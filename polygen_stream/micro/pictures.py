"""Painted pictures with captions, to train the micro generators and the oracle on. Seen scenes only."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polygen_stream import seeding
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Scene, sample_scene

_CHUNK = 2000
WORDINGS = 4


@dataclass(frozen=True)
class Pictures:
    """`images` uint8 [n, 32, 32, 3] and, per picture, `WORDINGS` captions of its scene."""

    images: np.ndarray
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)


def seen_pictures(count: int, seed: int, cache: Path, workers: int = 2) -> Pictures:
    """The first `count` pictures of a seed, painted once and kept in the folder `cache` (one .npz file)."""
    path = cache / f"pictures-{seed}-{count}.npz"
    if path.exists():
        stored = np.load(path, allow_pickle=False)
        return Pictures(stored["images"], stored["captions"].tolist())
    chunks = range((count + _CHUNK - 1) // _CHUNK)
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(_paint_chunk, [seed] * len(chunks), chunks))
    images = np.concatenate([p[0] for p in parts])[:count]
    captions = np.array([c for p in parts for c in p[1]][:count])
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, captions=captions)
    return Pictures(images, captions.tolist())


def scene_of(seed: int, index: int) -> tuple[Scene, np.random.Generator]:
    """The scene of picture `index`, and the generator that goes on to write and paint it."""
    rng = seeding.rng(seed, "picture", index)
    return sample_scene(rng), rng


def _paint_chunk(seed: int, chunk: int) -> tuple[np.ndarray, list[list[str]]]:
    images, captions = [], []
    for index in range(chunk * _CHUNK, (chunk + 1) * _CHUNK):
        scene, rng = scene_of(seed, index)
        captions.append([describe(scene, Style.sample(rng)) for _ in range(WORDINGS)])
        images.append(paint(scene, rng))
    return np.stack(images), captions
