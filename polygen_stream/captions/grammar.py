"""The micro world's grammar as a caption source: exact captions and exact one-axis hard negatives.

The micro language models are trained on what it writes. Tests and simulations use it where no model is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from polygen_stream.base import seeding
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.captions.base import Caption, CaptionSource, Dropped, describes_scene
from polygen_stream.micro.language import write_captions
from polygen_stream.schedule.ledger import CaptionTask


class GrammarSource(CaptionSource):
    """Captions about the things of the micro world, edited along its axes. Reserved scenes are never described.

    Args:
        scene_share: share of tasks, in 0..1, whose caption describes a whole scene.
    """

    concepts = MicroBank.concepts
    axes = MicroBank.axes

    def __init__(self, scene_share: float = 0.0) -> None:
        self._scene_share = scene_share
        self._written: list[Caption | Dropped] = []

    @property
    def provenance(self) -> Mapping[str, object]:
        """The writer and the share of whole scenes."""
        return {"bank": "micro", "writer": "grammar", "scene_share": self._scene_share}

    @property
    def pending(self) -> int:
        """Number of captions that are written and not yet collected."""
        return len(self._written)

    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Write the caption of a task at once."""
        # The random stream is the same with and without a negative, so T+ does not depend on the curriculum.
        text, negative = write_captions(
            task.concept,
            task.axis,
            describes_scene(task.caption_seed, self._scene_share),
            seeding.rng(task.caption_seed, "grammar"),
        )
        self._written.append(Caption(text, negative, task.axis) if with_negative else Caption(text))

    def collect(self) -> list[Caption | Dropped]:
        """Return everything written since the last call."""
        written, self._written = self._written, []
        return written
