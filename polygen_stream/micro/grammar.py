"""The caption grammar: writes English captions of a scene, in many wordings.

A wording is a `Style`. A caption and its hard negative share one, so that they differ on the edited axis only. (PolyGen
asks its language model to keep the syntax; here that is exact.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from polygen_stream.micro.world import Scene, Thing

_PLURAL = {"fish": "fish", "leaf": "leaves"}
# attribute value -> the phrases that name it
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
FRONTED_SHARE = 0.15  # of random wordings


@dataclass(frozen=True)
class Style:
    """A wording: which synonyms and which optional parts a caption uses.

    Attributes other than colour and background are mentioned if they are not the default.

    Attributes:
        opening: index into `OPENING`.
        synonym: selects among the phrases of each attribute value, modulo their number.
        fronted: whether the setting comes first ("at night, a red fish ...").
        names_background: whether the background is mentioned.
        names_colour: whether colours are mentioned.
    """

    opening: int
    synonym: int
    fronted: bool
    names_background: bool
    names_colour: bool

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Style:
        """Draw a random wording."""
        return cls(
            opening=int(rng.integers(len(OPENING))),
            synonym=int(rng.integers(6)),
            fronted=bool(rng.random() < FRONTED_SHARE),
            names_background=bool(rng.random() < 0.75),
            names_colour=bool(rng.random() < 0.92),
        )


def describe(scene: Scene, style: Style) -> str:
    """Return the caption of a scene in this wording, in lower case and without a final stop."""

    def word(table: Mapping[str, tuple[str, ...]], value: str) -> str:
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
    """Return the plural of a thing of the micro world."""
    return _PLURAL.get(noun, noun + "s")


def write_pair(scene: Scene, edited: Scene, style: Style) -> tuple[str, str]:
    """Write the captions of a scene and of its edit.

    Args:
        scene: the scene before the edit.
        edited: the scene after the edit.
        style: the wording of both; widened if it does not mention what the edit changes.

    Returns:
        The caption and its hard negative.
    """
    style = widen_style(scene, edited, style)
    return describe(scene, style), describe(edited, style)


def widen_style(scene: Scene, edited: Scene, style: Style) -> Style:
    """Return the wording, extended by colour and background as far as needed to tell the two scenes apart.

    Raises:
        ValueError: no wording does.
    """
    for wider in ({}, {"names_colour": True}, {"names_background": True}):
        style = replace(style, **wider)
        if describe(scene, style) != describe(edited, style):
            return style
    raise ValueError(f"no wording distinguishes {scene} from {edited}")
