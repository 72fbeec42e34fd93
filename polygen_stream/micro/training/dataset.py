"""Painted images with captions, on which the micro generators and the oracle are trained."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from polygen_stream.base import seeding
from polygen_stream.micro import world
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.painter import paint
from polygen_stream.micro.world import Scene, Split

_CHUNK = 2000
WORDINGS = 4  # captions per image
SINGLE_THING_SHARE = 0.5  # of the generators' images: one thing in daylight, with short captions


@dataclass(frozen=True)
class PaintedImages:
    """Images with captions.

    Attributes:
        images: uint8 [n, 32, 32, 3].
        captions: per image, `WORDINGS` captions of its scene.
    """

    images: np.ndarray
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)


def seen_images(count: int, seed: int, cache: Path, workers: int = 2) -> PaintedImages:
    """Return images of seen scenes for the generators, painted once and kept in a folder.

    Half of them are like the usual captions of a run: one thing, and a caption that leaves the rest open.

    Args:
        count: number of images.
        seed: of the images.
        cache: the folder.
        workers: number of processes that paint.
    """
    path = cache / f"pictures-{seed}-{count}.npz"
    if not path.exists():
        images, captions = _painted(partial(_captioned, seed), count, workers)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=images, captions=captions)
    stored = np.load(path, allow_pickle=False)
    return PaintedImages(stored["images"], stored["captions"].tolist())


def alt_texts(count: int, seed: int, wrong: float) -> list[list[str]]:
    """Return noisy captions of the images of `seen_images`, as those of a web crawl.

    Captions stay within seen combinations.

    Args:
        count: number of images.
        seed: of the images.
        wrong: probability that the noun of a thing is replaced by a random one; for its colour 0.8 times, for the
            background 0.6 times as high.

    Returns:
        Per image, `WORDINGS` captions.
    """
    captions = []
    for index in range(count):
        scene, brief, _ = _scene(seed, index)
        rng = seeding.rng(seed, "alt text", index)
        captions.append([describe(_misnamed(scene, rng, wrong), _wording(rng, brief)) for _ in range(WORDINGS)])
    return captions


def _misnamed(scene: Scene, rng: np.random.Generator, wrong: float) -> Scene:
    while True:
        named = scene
        for i in range(len(scene.things)):
            if rng.random() < wrong:
                named = named.with_thing(i, noun=world.THINGS[int(rng.integers(len(world.THINGS)))])
            if rng.random() < 0.8 * wrong:
                named = named.with_thing(i, colour=world.COLOURS[int(rng.integers(len(world.COLOURS)))])
        if rng.random() < 0.6 * wrong:
            named = replace(named, background=world.BACKGROUNDS[int(rng.integers(len(world.BACKGROUNDS)))])
        if not world.is_reserved(named):
            return named


def labelled_images(count: int, seed: int, workers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return images of seen and reserved scenes for the oracle.

    Args:
        count: number of images.
        seed: of the images.
        workers: number of processes that paint.

    Returns:
        Images uint8 [n, 32, 32, 3] and labels int64 [n, questions], see `oracle.labels_of`.
    """
    return _painted(partial(_labelled, seed), count, workers)


def _captioned(seed: int, index: int) -> tuple[np.ndarray, list[str]]:
    scene, brief, rng = _scene(seed, index)
    captions = [describe(scene, _wording(rng, brief)) for _ in range(WORDINGS)]
    return paint(scene, rng), captions


def _scene(seed: int, index: int) -> tuple[Scene, bool, np.random.Generator]:
    """Return scene `index` of the generators' images, whether its captions are short, and the random generator."""
    rng = seeding.rng(seed, "picture", index)
    if rng.random() < SINGLE_THING_SHARE:
        noun = world.THINGS[int(rng.integers(len(world.THINGS)))]
        return world.sample_single(rng, Split.SEEN, noun), True, rng
    return world.sample_scene(rng, Split.SEEN), False, rng


def _wording(rng: np.random.Generator, brief: bool) -> Style:
    style = Style.sample(rng)
    if not brief:
        return style
    return replace(style, names_colour=bool(rng.random() < 0.6), names_background=bool(rng.random() < 0.4))


def _labelled(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    from polygen_stream.micro.oracle import labels_of

    scene, rng = labelled_scene(seed, index)
    return paint(scene, rng), labels_of(scene)


def labelled_scene(seed: int, index: int) -> tuple[Scene, np.random.Generator]:
    """Return scene `index` of the oracle's images, and the random generator with which to paint it."""
    rng = seeding.rng(seed, "labelled picture", index)
    return world.sample_scene(rng, None), rng


def _painted(
    draw: Callable[[int], tuple[np.ndarray, object]], count: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(draw, range(count), chunksize=_CHUNK))
    return np.stack([d[0] for d in drawn]), np.array([d[1] for d in drawn])
