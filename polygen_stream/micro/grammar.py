"""The caption grammar: writes an English caption of a scene, in one of many wordings.

The wording is a `Style`, drawn once and used for a caption and for its hard negative, so that the two differ in the
edited axis and in nothing else (PolyGen asks its language model to keep the syntax; here it is exact).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polygen_stream.micro.world import Scene, Thing

_PLURAL = {"fish": "fish", "leaf": "leaves"}
# value -> the phrases that name it
NUMBER = {2: "two", 3: "three"}
RELATION = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
POSITION = {
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
BACKGROUND = {
    "meadow": ("on a meadow", "in a green field"),
    "beach": ("on a beach", "by the shore"),
    "snow": ("in the snow", "on snowy ground"),
    "sea": ("on the sea", "at sea"),
    "wall": ("before a brick wall", "in front of bricks"),
    "desert": ("in the desert", "among sand dunes"),
}
WEATHER = {"rain": ("in the rain", "on a rainy day"), "snowfall": ("in falling snow", "on a snowy day")}
LIGHTING = {"night": ("at night", "in the dark")}
SIZE = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
OPENING = ("", "", "", "a picture of ", "a photo of ", "an image of ", "there is ")


@dataclass(frozen=True)
class Style:
    """One wording: which synonym and which optional part a caption uses.

    `fronted` puts the setting first ("at night, a red fish ..."); `names_background` and `names_colour` say whether
    these two are mentioned at all; every other attribute is mentioned when it is not the default.
    """

    opening: int
    synonym: int
    fronted: bool
    names_background: bool
    names_colour: bool

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Style:
        return cls(
            opening=int(rng.integers(len(OPENING))),
            synonym=int(rng.integers(6)),
            fronted=bool(rng.random() < 0.15),
            names_background=bool(rng.random() < 0.75),
            names_colour=bool(rng.random() < 0.92),
        )


def describe(scene: Scene, style: Style) -> str:
    """The caption of a scene in this wording: lower case, no final stop."""

    def word(table: dict, value: object) -> str:
        options = table[value]
        return options[style.synonym % len(options)]

    def noun_phrase(thing: Thing, count: int) -> str:
        adjectives = [
            *([word(SIZE, thing.size)] if thing.size != "medium" else []),
            *([thing.material] if thing.material != "plain" else []),
            *([thing.colour] if style.names_colour else []),
        ]
        if count > 1:
            return " ".join([NUMBER[count], *adjectives, plural(thing.noun)])
        words = [*adjectives, thing.noun]
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])

    subject = noun_phrase(scene.things[0], scene.count)
    if scene.relation is not None:
        subject += f" {word(RELATION, scene.relation)} {noun_phrase(scene.things[1], 1)}"
    if scene.position != "centre":
        subject += " " + word(POSITION, scene.position)
    setting = [
        *([word(BACKGROUND, scene.background)] if style.names_background else []),
        *([word(WEATHER, scene.weather)] if scene.weather != "clear" else []),
        *([word(LIGHTING, scene.lighting)] if scene.lighting != "day" else []),
    ]
    opening = OPENING[style.opening]
    if opening == "there is " and scene.count > 1:
        opening = "there are "
    if setting and style.fronted:
        return f"{' '.join(setting)}, {opening}{subject}"
    return f"{opening}{' '.join([subject, *setting])}"


def plural(noun: str) -> str:
    return _PLURAL.get(noun, noun + "s")


def write_pair(scene: Scene, edited: Scene, style: Style) -> tuple[str, str]:
    """Captions of a scene and of its edit in one wording, widened until it mentions what the edit changed."""
    style = widen_style(scene, edited, style)
    return describe(scene, style), describe(edited, style)


def widen_style(scene: Scene, edited: Scene, style: Style) -> Style:
    """The wording, mentioning as much more as it takes to tell the two scenes apart."""
    for wider in ({}, {"names_colour": True}, {"names_background": True}):
        style = replace(style, **wider)
        if describe(scene, style) != describe(edited, style):
            return style
    raise ValueError(f"no wording tells {scene} from {edited}")
