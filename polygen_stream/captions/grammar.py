"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives.

As the paper conditions its language model on a concept and one semantic axis, a caption here is about its concept and
its axis: it names what the axis needs, and other attributes only now and then. What it leaves open, each generator
fills in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polygen_stream import seeding
from polygen_stream.captions.base import Caption
from polygen_stream.ledger import Task
from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import Style, write_pair
from polygen_stream.micro.world import Scene, Split

# How often each edit is an axis: about as often as SugarCrepe asks for its category (object edits are half of it).
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
RICH = 0.3  # share of captions that describe a whole scene, however little of it the axis needs


class GrammarSource:
    """Concepts are the things of the micro world, axes its edits; reserved scenes are never written."""

    concepts = world.THINGS
    axes = tuple(axis for axis, times in AXES.items() for _ in range(times))

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption | None]:
        return [self._write(task, negative) for task, negative in zip(tasks, with_negative, strict=True)]

    def _write(self, task: Task, with_negative: bool) -> Caption:
        # One stream whether or not a negative is asked for, so that T+ does not depend on the curriculum.
        rng = seeding.rng(task.caption_seed, "grammar")
        rich = rng.random() < RICH
        while True:
            scene, edited = edits.applicable_scene(task.axis, Split.SEEN, rng, task.concept)
            if rich or _is_plain(scene, task.axis):
                break
        style = Style.sample(rng) if rich else _terse(rng)
        text, negative = write_pair(scene, edited, style)
        return Caption(text, negative, task.axis) if with_negative else Caption(text)


def _is_plain(scene: Scene, axis: str) -> bool:
    """Whether the scene has nothing to tell beyond its concept, its axis, a colour and a background."""
    told = {
        "a second thing": scene.is_pair and axis not in ("replace_relation", "swap_object", "swap_attribute"),
        "weather": scene.weather != "clear" and axis != "replace_weather",
        "lighting": scene.lighting != "day" and axis != "replace_lighting",
    }
    return not any(told.values())


def _terse(rng: np.random.Generator) -> Style:
    return replace(Style.sample(rng), names_colour=bool(rng.random() < 0.5), names_background=bool(rng.random() < 0.35))
