"""The micro world: a closed world of small pictures with language.

A `Scene` says everything there is to know about one picture; the grammar describes it, the painter paints it, the edits
change one axis of it. One scene in ten is *reserved*: a hash of its (thing, attribute, relation, thing) combinations
keeps it out of all training (generators, language models, CLIP), so that evaluation can ask for combinations that
no model was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import TypeVar

import numpy as np

from polygen_stream.base.seeding import key

T = TypeVar("T")

THINGS = (
    "house", "tree", "fish", "car", "cup", "star", "key", "heart", "moon", "boat", "flower", "bird",
    "umbrella", "mushroom", "hat", "bell", "arrow", "apple", "cat", "lamp", "leaf", "crown", "ball", "candle",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
SIZES = ("small", "medium", "big")
MATERIALS = ("plain", "striped")
COUNTS = (1, 2, 3)
POSITIONS = ("centre", "left", "right", "top", "bottom")
RELATIONS = ("left of", "right of", "above", "below")
BACKGROUNDS = ("meadow", "beach", "snow", "sea", "wall", "desert")
LIGHTINGS = ("day", "night")
WEATHERS = ("clear", "rain", "snowfall")

INVERSE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RESERVED_SHARE = 0.1


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    noun: str
    colour: str
    size: str = "medium"
    material: str = "plain"


@dataclass(frozen=True)
class Scene:
    """A picture before it is painted.

    One thing (`count` copies of it, at `position` when there is one copy) or two things, where
    `things[0]` is `relation` `things[1]`.
    """

    things: tuple[Thing, ...]
    background: str
    relation: str | None = None
    count: int = 1
    position: str = "centre"
    lighting: str = "day"
    weather: str = "clear"

    def __post_init__(self) -> None:
        assert len(self.things) in (1, 2)
        assert (self.relation is not None) == (len(self.things) == 2)
        assert self.count == 1 or len(self.things) == 1

    @property
    def is_pair(self) -> bool:
        return len(self.things) == 2

    def with_thing(self, index: int, **changes: str) -> Scene:
        """The same scene with fields of one thing replaced."""
        things = list(self.things)
        things[index] = replace(things[index], **changes)
        return replace(self, things=tuple(things))


class Split(Enum):
    """Which scenes may be sampled: those training may see, or the reserved ones."""

    SEEN = "seen"
    UNSEEN = "unseen"


def combinations(scene: Scene) -> tuple[tuple[str, ...], ...]:
    """The (thing, attribute, relation, thing) combinations of a scene.

    A pair is named from its left or upper thing, so that "a above b" and "b below a" are one combination; a single
    thing is related to the background it stands on.
    """
    if not scene.is_pair:
        thing = scene.things[0]
        return ((thing.noun, thing.colour, "on", scene.background),)
    first, second = scene.things
    relation = scene.relation
    assert relation is not None
    if relation in ("right of", "below"):
        first, second, relation = second, first, INVERSE_RELATION[relation]
    return ((first.noun, first.colour, relation, second.noun),)


@lru_cache(maxsize=65536)
def _is_reserved_combination(combination: tuple[str, ...]) -> bool:
    return key("micro-world reserved", *combination) / 2**64 < RESERVED_SHARE


def is_reserved(scene: Scene) -> bool:
    """True if any combination of the scene is kept for evaluation."""
    return any(_is_reserved_combination(c) for c in combinations(scene))


def sample_scene(rng: np.random.Generator, split: Split | None = Split.SEEN, noun: str | None = None) -> Scene:
    """A random scene of the split, or of both with None; `noun` fixes its first thing."""
    while True:
        scene = _propose(rng, noun)
        if split is None or is_reserved(scene) == (split is Split.UNSEEN):
            return scene


def sample_single(rng: np.random.Generator, split: Split, noun: str) -> Scene:
    """One thing alone, in daylight and clear weather: the picture that zero-shot classification asks about."""
    while True:
        thing = Thing(noun, _pick(rng, COLOURS), _pick(rng, ("medium", "big")))
        scene = Scene((thing,), _pick(rng, BACKGROUNDS))
        if is_reserved(scene) == (split is Split.UNSEEN):
            return scene


def _propose(rng: np.random.Generator, noun: str | None) -> Scene:
    noun = noun or _pick(rng, THINGS)
    background = _pick(rng, BACKGROUNDS)
    lighting = "night" if rng.random() < 0.15 else "day"
    weather = _pick(rng, ("rain", "snowfall")) if rng.random() < 0.2 else "clear"
    common = {"background": background, "lighting": lighting, "weather": weather}
    thing = Thing(noun, _pick(rng, COLOURS), material="striped" if rng.random() < 0.15 else "plain")
    layout = rng.random()
    if layout < 0.40:  # two things
        other = Thing(
            _pick(rng, [n for n in THINGS if n != noun]),
            _pick(rng, [c for c in COLOURS if c != thing.colour]),
            material="striped" if rng.random() < 0.1 else "plain",
        )
        return Scene((thing, other), relation=_pick(rng, RELATIONS), **common)
    if layout < 0.55:  # several of one thing
        return Scene((thing,), count=int(rng.integers(2, 4)), **common)
    if layout < 0.70:  # one small or medium thing at a side
        thing = replace(thing, size=_pick(rng, ("small", "medium")))
        return Scene((thing,), position=_pick(rng, POSITIONS[1:]), **common)
    return Scene((replace(thing, size=_pick(rng, SIZES)),), **common)


def _pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]
