"""Other sides: of captions that a batch showed one text of, T+ or T-, the text that is still to be shown.

With `curriculum.kind = "co_occurrence"` a caption that is not drawn as a pair shows one of its two texts. The other one
waits here, its group pinned in the ring, and comes in a batch of such texts alone, which holds no pair. So each draw
of a caption shows both of its texts, together or apart, and what the curriculum moves is how many of them meet.

A batch of other sides is taken once `due` captions wait, a random choice among them, so that its texts were left by
many batches and not by the last one alone. In the data set of PolyGen's first author these batches are shuffled among
all others of an epoch, which takes a finite data set (co_occurrence.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from polygen_stream.base.seeding import rng
from polygen_stream.schedule.leftover import Group, PinnableRing, Reason

Side = tuple[int, int, int]  # row in the ring, generation, polarity
LANE = "other_side"  # its name beside the lanes of the leftover queue


class OtherSides:
    """Texts that wait for a batch, each with its group pinned.

    No text gets lost: entered = trained + waiting + dropped.

    Args:
        ring: the ring that their groups lie in.
        seed: of the run.
        texts: texts of a batch.
        most: groups that the ring lets be pinned; at least 2 x `texts`.
    """

    def __init__(self, ring: PinnableRing, seed: int, texts: int, most: int) -> None:
        if most < 2 * texts:
            raise ValueError(f"{most} groups may wait, fewer than two batches of {texts} texts")
        self._ring = ring
        self._seed = seed
        self._texts = texts
        self.due = min(4 * texts, most - texts)
        self._waiting: list[Side] = []
        self._pins: Counter[Group] = Counter()
        self.entered = self.trained = 0
        self.dropped: dict[Reason, int] = {Reason.FULL: 0, Reason.GONE: 0}

    def __len__(self) -> int:
        return len(self._waiting)

    def batch(self, step: int) -> list[Side]:
        """Return the texts of a batch, no two of one caption, if that many are due; else []. They go on waiting."""
        if len(self._pins) < self.due:
            return []
        chosen: dict[Group, Side] = {}
        for place in rng(self._seed, "other sides", step).permutation(len(self._waiting)).tolist():
            side = self._waiting[place]
            chosen.setdefault(side[:2], side)
            if len(chosen) == self._texts:
                break
        return list(chosen.values())

    def put(self, sides: Iterable[Side]) -> None:
        """Let texts wait."""
        for side in sides:
            group = side[:2]
            self.entered += 1
            answer = self._ring.pin(*group).value
            if answer == "pinned":
                self._waiting.append(side)
                self._pins[group] += 1
            else:
                self.dropped[Reason(answer)] += 1

    def drawn(self, sides: Sequence[Side]) -> None:
        """Remove texts: a batch was trained on them."""
        self._remove(sides)
        self.trained += len(sides)

    def settle(self, pinned: Iterable[Group]) -> None:
        """After loading a state: drop texts whose groups are no longer pinned, and unpin groups without one.

        Args:
            pinned: every group that the ring has pinned.
        """
        pinned = set(pinned)
        gone = [side for side in self._waiting if side[:2] not in pinned]
        self._remove(gone)
        self.dropped[Reason.GONE] += len(gone)
        for group in pinned.difference(self._pins):
            self._ring.unpin(*group)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return entered = trained + waiting + what was dropped, by reason, as LeftoverQueue.counts does."""
        dropped = {f"dropped_{reason}": count for reason, count in self.dropped.items()}
        return {LANE: {"entered": self.entered, "trained": self.trained, "waiting": len(self), **dropped}}

    def state_dict(self) -> dict[str, Any]:
        """Return the texts that wait and the counts, for JSON."""
        dropped = {str(reason): count for reason, count in self.dropped.items()}
        return {
            "waiting": [list(side) for side in self._waiting],
            "entered": self.entered,
            "trained": self.trained,
            "dropped": dropped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; `settle` makes it agree with the ring."""
        self._waiting = [(row, generation, polarity) for row, generation, polarity in state["waiting"]]
        self._pins = Counter(side[:2] for side in self._waiting)
        self.entered, self.trained = state["entered"], state["trained"]
        self.dropped = {reason: state["dropped"][reason] for reason in self.dropped}

    def _remove(self, sides: Sequence[Side]) -> None:
        counts, kept = Counter(sides), list[Side]()
        for side in self._waiting:
            if counts[side]:
                counts[side] -= 1
            else:
                kept.append(side)
        self._waiting = kept
        self._pins -= Counter(side[:2] for side in sides)
        for group in {side[:2] for side in sides}.difference(self._pins):
            self._ring.unpin(*group)
