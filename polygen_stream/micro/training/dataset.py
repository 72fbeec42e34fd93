"""Painted pictures with captions, to train the micro generators and the oracle on."""

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
WORDINGS = 4
SINGLE_THING_SHARE = 0.5  # share of a generator's pictures that show one thing in daylight, briefly described


@dataclass(frozen=True)
class PaintedImages:
    """`images` uint8 [n, 32, 32, 3] and, per picture, `WORDINGS` captions of its scene."""

    images: np.ndarray
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)


def seen_images(count: int, seed: int, cache: Path, workers: int = 2) -> PaintedImages:
    """The first `count` pictures of a seed for the generators, painted once and kept in the folder `cache`.

    Half of them are what the captioner mostly asks for: one thing, in a caption that leaves the rest open.
    """
    path = cache / f"pictures-{seed}-{count}.npz"
    if not path.exists():
        images, captions = _painted(partial(_captioned, seed), count, workers)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=images, captions=captions)
    stored = np.load(path, allow_pickle=False)
    return PaintedImages(stored["images"], stored["captions"].tolist())


def alt_texts(count: int, seed: int, wrong: float) -> list[list[str]]:
    """Captions of the same pictures as the web has them, `WORDINGS` each: what they name is often something else.

    The noun of every thing is another one with probability `wrong`, its colour with 0.8 and the background with 0.6
    times that. Captions stay within seen combinations.
    """
    out = []
    for index in range(count):
        scene, brief, _ = _scene(seed, index)
        rng = seeding.rng(seed, "alt text", index)
        out.append([describe(_misnamed(scene, rng, wrong), _wording(rng, brief)) for _ in range(WORDINGS)])
    return out


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
    """Pictures of seen and reserved scenes with the oracle's labels: uint8 [n, 32, 32, 3], int64 [n, questions]."""
    return _painted(partial(_labelled, seed), count, workers)


def _captioned(seed: int, index: int) -> tuple[np.ndarray, list[str]]:
    scene, brief, rng = _scene(seed, index)
    captions = [describe(scene, _wording(rng, brief)) for _ in range(WORDINGS)]
    return paint(scene, rng), captions


def _scene(seed: int, index: int) -> tuple[Scene, bool, np.random.Generator]:
    """Scene `index` of the generators' pictures, whether it is briefly described, and the generator that goes on."""
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
    """Scene `index` of the oracle's pictures, and the generator that goes on to paint it."""
    rng = seeding.rng(seed, "labelled picture", index)
    return world.sample_scene(rng, None), rng


def _painted(draw: Callable[[int], tuple], count: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(draw, range(count), chunksize=_CHUNK))
    return np.stack([d[0] for d in drawn]), np.array([d[1] for d in drawn])
