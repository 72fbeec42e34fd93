"""Prompts of the micro language models, and the captions and hard negatives that are correct replies.

As the paper conditions its language model on a concept and one semantic axis, a terse caption mentions its concept,
what the axis needs, and other attributes only occasionally; what it leaves open, each generator fills in differently.
A caption of a whole scene is worded as the test captions are: most of them name colours and the background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import Style, describe, widen_style
from polygen_stream.micro.world import Scene, Split

VERSION = 2  # of the prompts; journals record it
# Relative frequency of each edit as an axis, about that of its category in SugarCrepe (half of it are object edits).
AXES = {
    "replace_object": 6,
    "replace_background": 1,
    "add_object": 2,
    "swap_object": 2,
    "replace_colour": 1,
    "replace_size": 1,
    "replace_material": 1,
    "replace_count": 1,
    "replace_lighting": 1,
    "replace_weather": 1,
    "replace_relation": 2,
    "replace_position": 1,
    "add_attribute": 1,
    "swap_attribute": 2,
}
NAMES_COLOUR, NAMES_BACKGROUND = 0.2, 0.1  # share of terse captions that mention a colour or a background without need

# axis -> what the prompt for T+ asks the caption to describe
_SUBJECT = {
    "replace_object": "the thing",
    "replace_background": "the background",
    "add_object": "one thing",
    "swap_object": "two things",
    "replace_colour": "the colour",
    "replace_size": "the size",
    "replace_material": "the material",
    "replace_count": "the count",
    "replace_lighting": "the lighting",
    "replace_weather": "the weather",
    "replace_relation": "the relation",
    "replace_position": "the position",
    "add_attribute": "a thing",
    "swap_attribute": "two colours",
}
assert _SUBJECT.keys() == AXES.keys() == edits.CATEGORY.keys()


def caption_prompt(concept: str, axis: str, whole_scene: bool) -> str:
    """Return the prompt for T+ of the model that writes captions."""
    return f"describe {'a scene with ' if whole_scene else ''}{concept}: {_SUBJECT[axis]}"


def negative_prompt(text: str, axis: str) -> str:
    """Return the prompt for T- of the model that edits the caption `text`."""
    return f"{axis.replace('_', ' ')}: {text}"


@dataclass(frozen=True)
class CaptionPair:
    """A caption and its exact hard negative.

    Attributes:
        text: T+.
        negative: T-.
        scene: the scene that T+ describes.
        style: the wording of both.
    """

    text: str
    negative: str
    scene: Scene
    style: Style


def write_captions(concept: str, axis: str, whole_scene: bool, rng: np.random.Generator) -> tuple[str, str]:
    """Write a caption without reserved combinations, and its exact hard negative.

    Args:
        concept: the thing that the caption is about.
        axis: the edit that the caption must allow.
        whole_scene: whether the caption describes a whole scene, whatever the axis needs.
        rng: random generator.

    Returns:
        T+ and T-.
    """
    drawn = draw_caption_pair(concept, axis, whole_scene, rng)
    return drawn.text, drawn.negative


def draw_caption_pair(concept: str, axis: str, whole_scene: bool, rng: np.random.Generator) -> CaptionPair:
    """Write a caption and its hard negative as `write_captions` does, with their scene and wording."""
    while True:
        scene, edited = edits.applicable_scene(axis, Split.SEEN, rng, concept)
        if whole_scene or _is_plain(scene, axis):
            break
    style = widen_style(scene, edited, Style.sample(rng) if whole_scene else _terse(rng))
    return CaptionPair(describe(scene, style), describe(edited, style), scene, style)


def sample_request(rng: np.random.Generator) -> tuple[str, str]:
    """Draw a concept and an axis with the probabilities of a ledger."""
    axes = list(AXES)
    weights = np.array(list(AXES.values()), float)
    axis = axes[int(rng.choice(len(axes), p=weights / weights.sum()))]
    return world.THINGS[int(rng.integers(len(world.THINGS)))], axis


def _is_plain(scene: Scene, axis: str) -> bool:
    """Return whether the scene has default attributes but for those that the axis needs, colours and the background."""
    thing = scene.things[0]
    extras = {
        "a second thing": scene.is_pair and axis not in ("replace_relation", "swap_object", "swap_attribute"),
        "weather": scene.weather != "clear" and axis != "replace_weather",
        "lighting": scene.lighting != "day" and axis != "replace_lighting",
        "size": thing.size != "medium" and axis != "replace_size",
        "material": any(t.material != "plain" for t in scene.things) and axis != "replace_material",
        "count": scene.count > 1 and axis != "replace_count",
        "position": scene.position != "centre" and axis != "replace_position",
    }
    return not any(extras.values())


def _terse(rng: np.random.Generator) -> Style:
    return replace(
        Style.sample(rng),
        names_colour=bool(rng.random() < NAMES_COLOUR),
        names_background=bool(rng.random() < NAMES_BACKGROUND),
    )
