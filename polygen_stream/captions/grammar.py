"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives.

The micro language models are trained on what it writes. Tests and simulations use it where no model is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from polygen_stream.base import seeding
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.micro.language import write_captions
from polygen_stream.schedule.ledger import CaptionTask


class GrammarSource(CaptionSource):
    """Captions about the things of the micro world, edited along its axes. Reserved scenes are never described."""

    concepts = MicroBank.concepts
    axes = MicroBank.axes

    def __init__(self) -> None:
        self._written: list[Caption | Dropped] = []

    @property
    def provenance(self) -> Mapping[str, object]:
        """The same for every grammar source."""
        return {"bank": "micro", "writer": "grammar"}

    @property
    def pending(self) -> int:
        """Number of captions that are written and not yet collected."""
        return len(self._written)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Write the caption of a task at once."""
        # The random stream is the same with and without a negative, so T+ does not depend on the curriculum.
        text, negative = write_captions(task.concept, task.axis, seeding.rng(task.caption_seed, "grammar"))
        self._written.append(Caption(text, negative, task.axis) if with_negative else Caption(text))

    def collect(self) -> list[Caption | Dropped]:
        """Return everything written since the last call."""
        written, self._written = self._written, []
        return written
