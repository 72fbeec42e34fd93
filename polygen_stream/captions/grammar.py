"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives."""

from __future__ import annotations

from collections.abc import Sequence

from polygen_stream import seeding
from polygen_stream.captions.base import Caption
from polygen_stream.ledger import Task
from polygen_stream.micro import edits, world
from polygen_stream.micro.grammar import write_pair


class GrammarSource:
    """Concepts are the things of the micro world, axes its edits; reserved scenes are never written."""

    concepts = world.THINGS
    axes = edits.EDITS

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption | None]:
        return [self._write(task, negative) for task, negative in zip(tasks, with_negative, strict=True)]

    def _write(self, task: Task, with_negative: bool) -> Caption:
        # One stream whether or not a negative is asked for, so that T+ does not depend on the curriculum.
        rng = seeding.rng(task.caption_seed, "grammar")
        scene, edited = edits.applicable_scene(task.axis, world.Split.SEEN, rng, task.concept)
        text, negative = write_pair(scene, edited, rng)
        return Caption(text, negative, task.axis) if with_negative else Caption(text)
