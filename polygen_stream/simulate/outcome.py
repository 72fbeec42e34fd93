"""Figures of a simulated run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Figures of one simulated node. Seconds are simulated and counted from the start of the run.

    Attributes:
        waited_s: Per step, seconds of waiting for the ring, the GPU and other nodes.
        worked_s: Per step, seconds of training.
        finished_s: End of the last step.
        images: Images rendered, by generator.
        images_drawn: Images drawn by all steps, with repetition.
        captions: Captions written.
        reuse: Mean number of draws per caption.
        negatives: Hard negatives that were rendered.
        negatives_unused: Of those, the ones that were never drawn as hard negatives.
    """

    waited_s: list[float] = field(default_factory=list)
    worked_s: list[float] = field(default_factory=list)
    finished_s: float = 0.0
    images: dict[str, int] = field(default_factory=dict)
    images_drawn: int = 0
    captions: int = 0
    reuse: float = 0.0
    negatives: int = 0
    negatives_unused: int = 0

    @property
    def waiting_share(self) -> float:
        """Fraction of the trainer's time spent waiting after the first step, as in a real run's summary.

        The first step is left out because it includes loading the models and filling the ring.
        """
        waited = sum(self.waited_s[1:])
        return waited / (waited + sum(self.worked_s[1:]) or 1.0)

    @property
    def steps_per_second(self) -> float:
        """Rate between the end of the first step and the end of the last one."""
        seconds = sum(self.waited_s[1:]) + sum(self.worked_s[1:])
        return (len(self.worked_s) - 1) / seconds if seconds else 0.0
