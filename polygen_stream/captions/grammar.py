"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives.

The reference for what the micro language models learn, and a source without any model for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from polygen_stream import seeding
from polygen_stream.captions.base import Caption
from polygen_stream.captions.micro import MicroBank
from polygen_stream.ledger import Task
from polygen_stream.micro.language import write_captions


class GrammarSource:
    """Concepts are the things of the micro world, axes its edits; reserved scenes are never written."""

    concepts = MicroBank.concepts
    axes = MicroBank.axes
    provenance: ClassVar = {"bank": "micro", "writer": "grammar"}

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption]:
        return [self._write(task, negative) for task, negative in zip(tasks, with_negative, strict=True)]

    def _write(self, task: Task, with_negative: bool) -> Caption:
        # One stream whether or not a negative is asked for, so that T+ does not depend on the curriculum.
        text, negative = write_captions(task.concept, task.axis, seeding.rng(task.caption_seed, "grammar"))
        return Caption(text, negative, task.axis) if with_negative else Caption(text)
