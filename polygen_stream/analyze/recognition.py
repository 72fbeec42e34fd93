"""Whether an image shows its caption, by three judges: a fixed CLIP, the micro world's oracle, other generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polygen_stream.micro import world
from polygen_stream.micro.oracle import Oracle
from polygen_stream.micro.parse import UNNAMED, NotACaption, parse
from polygen_stream.micro.world import Scene

CLIP_SCORE_PREFIX = "A photo depicts "  # of every caption, as jmhessel/clipscore clipscore.py has it
CLIP_SCORE_WEIGHT = 2.5


def clip_score(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return 2.5 max(cos, 0) of L2-normalised features [n, d], row by row: float [n].

    CLIPScore of Hessel et al. 2021 (arXiv 2104.08718). Their CLIP is ViT-B/32; with another one the numbers
    compare only with each other.
    """
    return CLIP_SCORE_WEIGHT * (images * texts).sum(1).clip(min=0)


def prototype_right(features: np.ndarray, classes: np.ndarray, generators: np.ndarray) -> np.ndarray:
    """Return 1.0 where the nearest prototype is an image's own class, 0.0 where not, NaN where that class has none.

    A prototype is the mean feature of a class (Snell et al. 2017), here of the images that the *other* generators
    rendered of it, so that no image is compared with itself. Boutin et al. 2022 (arXiv 2205.10370) measure
    recognizability so, with prototypes of real images; the other generators replace them here.

    Args:
        features: float [n, d].
        classes: int64 [n].
        generators: int64 [n].
    """
    names = np.unique(classes)
    out = np.full(len(features), np.nan)
    for generator in np.unique(generators):
        mine, others = generators == generator, generators != generator
        known = np.array([c for c in names if (others & (classes == c)).any()])
        if len(known) < 2:
            continue
        prototypes = np.stack([features[others & (classes == c)].mean(0) for c in known])
        judged = np.flatnonzero(mine & np.isin(classes, known))
        distances = ((features[judged, None] - prototypes) ** 2).sum(-1)  # [judged, classes]
        out[judged] = known[distances.argmin(1)] == classes[judged]
    return out


def oracle_right(oracle: Oracle, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Return 1.0 where the oracle reads all that a caption names: things, colours, background and relation.

    Args:
        oracle: the reader.
        images: uint8 [n, 32, 32, 3], one per caption.
        captions: n texts.

    Returns:
        Float [n]; NaN where the caption is not of the micro grammar.
    """
    scenes = [_scene(text) for text in captions]
    out = np.full(len(captions), np.nan)
    rows = [i for i, scene in enumerate(scenes) if scene is not None]
    if not rows:
        return out
    known = [scene for scene in scenes if scene is not None]
    right = oracle.read(images[rows]).correct([_filled(scene) for scene in known])
    for place, (row, scene) in enumerate(zip(rows, known, strict=True)):
        out[row] = float(all(right[question][place] == 1.0 for question in _named(scene)))
    return out


def _scene(text: str) -> Scene | None:
    try:
        return parse(text)
    except NotACaption:
        return None


def _named(scene: Scene) -> list[str]:
    """The oracle's questions that the caption answers. The oracle's order of things may differ from the caption's."""
    first, second = scene.things[0], scene.things[-1]
    named = ["thing", "layout"]
    if scene.is_pair:
        named += ["second_thing", "relation"]
        both = UNNAMED not in (first.colour, second.colour)
        named += ["colour", "second_colour"] if both else []
    elif first.colour != UNNAMED:
        named.append("colour")
    return [*named, "background"] if scene.background != UNNAMED else named


def _filled(scene: Scene) -> Scene:
    """The scene with any answer where the caption leaves one open; `_named` leaves those questions out."""
    things = tuple(t if t.colour != UNNAMED else replace(t, colour=world.COLOURS[0]) for t in scene.things)
    background = scene.background if scene.background != UNNAMED else world.BACKGROUNDS[0]
    return replace(scene, things=things, background=background)
