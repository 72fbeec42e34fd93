"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives.

The reference for what the micro language models learn, and a source without any model for tests.
"""

from __future__ import annotations

from typing import ClassVar

from polygen_stream.base import seeding
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.base import Caption, CaptionSource
from polygen_stream.micro.language import write_captions
from polygen_stream.schedule.ledger import CaptionTask


class GrammarSource(CaptionSource):
    """Concepts are the things of the micro world, axes its edits; reserved scenes are never written."""

    concepts = MicroBank.concepts
    axes = MicroBank.axes
    provenance: ClassVar = {"bank": "micro", "writer": "grammar"}

    def __init__(self) -> None:
        self._written: list[Caption] = []

    @property
    def pending(self) -> int:
        return len(self._written)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        # One stream whether or not a negative is asked for, so that T+ does not depend on the curriculum.
        text, negative = write_captions(task.concept, task.axis, seeding.rng(task.caption_seed, "grammar"))
        self._written.append(Caption(text, negative, task.axis) if with_negative else Caption(text))

    def collect(self) -> list[Caption]:
        written, self._written = self._written, []
        return written
