"""Hard-negative curriculum: what to draw at a step, and what to start producing for a later one.

The unit is a text. A batch holds B texts, T+ and T- together, and ``p = T- / B`` is its hard-negative share.
A negative is only ever drawn beside its own positive, so a PAIR group brings one T+ and one T- and
``p = 0.5`` means that every positive has its negative in the batch.

With ``kind = "co_occurrence"``, as in the code of PolyGen's first author, p is the share of negatives *that meet
their positive*: a batch has ``int(p B)`` pairs, and of its other captions one text, T+ or T- by a fair coin. The
text that was not shown comes in a batch without pairs (other_sides.py, co_occurrence.py), so hard negatives are half
of all texts from the first step on, and every caption has one. A step has ``B / 2`` captions on average, whatever p
is.

The paper raises p linearly from 0 to 0.5 over 40 epochs: ``p(e) = start + (end - start) * min(1, e / E)``.
Online synthesis has no natural epoch. Our reading is that ``e / E`` is the fraction of the run's steps that is
done, or that an epoch is a number of captions drawn. Whether e moves within an epoch is not known either: it
does, or with ``staircase`` it counts whole epochs, so that the last of 40 has p = 0.4875.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["linear", "cosine", "step", "constant"]
CurriculumKind = Literal["share", "co_occurrence"]


@dataclass(frozen=True)
class DrawMix:
    """Group counts of one batch: ``plain + 2 * pair`` texts, ``plain + pair`` groups.

    ``share`` is the target p of the step; ``realised`` is what whole groups could give.
    """

    plain: int
    pair: int
    share: float

    @property
    def realised(self) -> float:
        """Share of hard negatives among the texts of the batch."""
        return self.pair / (self.plain + 2 * self.pair)


class ErrorDiffusion:
    """Rounds a stream of real amounts to integers and carries what rounding left over.

    The running total of what was taken stays within one half of the running total asked for, as long as
    the limit allows. The carry is bounded, so an unreachable target (p = 0.5 of an odd batch) does not
    build up a debt that a later step would have to pay at once.
    """

    def __init__(self, carry: float = 0.0) -> None:
        self.carry = carry

    def take(self, amount: float, limit: int) -> int:
        """The integer in [0, limit] to take now for ``amount``."""
        wanted = amount + self.carry
        taken = min(max(math.floor(wanted + 0.5), 0), limit)
        self.carry = min(max(wanted - taken, -0.5), 0.5)
        return taken


class Curriculum:
    """Draw mix and production mix as functions of the training step.

    Args:
        schedule: ``linear`` from ``start`` to ``end``, ``cosine`` (half a period, flat at both), ``step`` (at
            once, at ``step_at``), or ``constant`` at ``end``.
        start: share of hard negatives at step 0, in [0, 0.5].
        end: share at the end, in [0, 0.5]; more or less than ``start``.
        steps: training steps of the whole run, over which p goes from ``start`` to ``end``.
        texts: B, the texts of one batch (T+ and T- together).
        step_at: progress from which on a ``step`` is at ``end``, in [0, 1].
        epoch_captions: if not 0, progress is counted in epochs of as many captions drawn, and not in ``steps``.
        epochs: E, the epochs until ``end``.
        staircase: count whole epochs only.
        kind: what p is a share of, see above.
    """

    def __init__(
        self,
        schedule: Schedule,
        start: float,
        end: float,
        steps: int,
        texts: int,
        *,
        step_at: float = 0.5,
        epoch_captions: int = 0,
        epochs: int = 40,
        staircase: bool = False,
        kind: CurriculumKind = "share",
    ) -> None:
        for name, value in (("start", start), ("end", end)):
            if not 0.0 <= value <= 0.5:
                raise ValueError(
                    f"curriculum.{name} is {value}, outside [0, 0.5]: a batch of B texts holds at most B/2"
                    " negatives, because each comes with its positive"
                )
        if steps < 1 or texts < 1:
            raise ValueError(f"a curriculum needs steps >= 1 and texts >= 1, not {steps} and {texts}")
        if staircase and not epoch_captions:
            raise ValueError("curriculum.staircase has no meaning without epochs: set curriculum.epoch_captions")
        self.schedule = schedule
        self.start = start
        self.end = end
        self.steps = steps
        self.texts = texts
        self.step_at = step_at
        self.epoch_captions = epoch_captions
        self.epochs = epochs
        self.staircase = staircase
        self.kind = kind
        self._rounding = ErrorDiffusion()
        self._captions = [0.0]  # drawn before each step, as far as computed

    def share(self, step: int) -> float:
        """Target p at ``step``; steps past the end of the run keep the end value."""
        return self._share(self.progress(step))

    def progress(self, step: int) -> float:
        """How much of the way from ``start`` to ``end`` is behind at ``step``, in [0, 1]."""
        step = max(0, step)
        if not self.epoch_captions:
            return min(1.0, step / self.steps)
        # How many captions a batch has depends on p, and p on the captions before.
        while len(self._captions) <= step:
            behind = self._epochs_behind(self._captions[-1])
            if behind >= self.epochs:
                return 1.0
            per_text = 0.5 if self.kind == "co_occurrence" else 1 - self._share(behind / self.epochs)
            self._captions.append(self._captions[-1] + self.texts * per_text)
        return min(1.0, self._epochs_behind(self._captions[step]) / self.epochs)

    def _epochs_behind(self, captions: float) -> float:
        epochs = captions / self.epoch_captions
        return math.floor(epochs) if self.staircase else epochs

    def _share(self, progress: float) -> float:
        if self.schedule == "constant":
            return self.end
        if self.schedule == "step":
            return self.end if progress >= self.step_at else self.start
        if self.schedule == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    def draw(self, step: int) -> DrawMix:
        """Group counts for the batch of ``step``. Call once per step, in order: rounding is carried on."""
        share = self.share(step)
        if self.kind == "co_occurrence":
            pair = int(share * self.texts)
            return DrawMix(plain=self.texts - 2 * pair, pair=pair, share=share)
        pair = self._rounding.take(share * self.texts, self.texts // 2)
        return DrawMix(plain=self.texts - 2 * pair, pair=pair, share=share)

    def production_share(self, step: int, lead_steps: float) -> float:
        """Share of newly opened groups that should be PAIR, in [0, 1].

        Looks one lead time ahead: a group opened while the trainer is at ``step`` is drawable about
        ``lead_steps`` later, so it has to meet the draw mix of that step. Per text that mix holds p pairs
        and 1 - 2p plain groups, hence ``pair / (plain + pair) = p / (1 - p)``. With co-occurrence every caption
        needs its negative.
        """
        if lead_steps < 0:
            raise ValueError(f"lead_steps is {lead_steps}; production cannot be ready before it starts")
        if self.kind == "co_occurrence":
            return 1.0
        ahead = self.share(step + math.ceil(lead_steps))
        return ahead / (1.0 - ahead)

    def state_dict(self) -> dict[str, float]:
        """Return the carry of the rounding."""
        return {"carry": self._rounding.carry}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from what `state_dict` returned."""
        self._rounding = ErrorDiffusion(float(state["carry"]))
