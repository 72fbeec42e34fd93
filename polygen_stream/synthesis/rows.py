"""Which rows of the feedback board the axis and the concept of a task have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polygen_stream.base.seeding import key
from polygen_stream.ring import FEEDBACK_NAMES

NONE = -1


@dataclass(frozen=True)
class FeedbackRows:
    """The names of the rows. They are on the board, so that groups that are opened again get the same rows.

    Attributes:
        axes: {name: row}.
        concepts: {name: row}.
    """

    axes: dict[str, int]
    concepts: dict[str, int]

    @classmethod
    def of_source(cls, axes: Sequence[str], concepts: Sequence[str]) -> FeedbackRows:
        """Return the rows for what a caption source writes about.

        Each axis and each concept has a row of its own; those of more than FEEDBACK_NAMES concepts are shared, by a
        hash of the concept. Axes beyond FEEDBACK_NAMES have none.
        """
        if len(set(concepts)) > FEEDBACK_NAMES:
            concepts = [_shared(number) for number in range(FEEDBACK_NAMES)]
        return cls.of_names(list(dict.fromkeys(axes))[:FEEDBACK_NAMES], list(dict.fromkeys(concepts)))

    @classmethod
    def of_names(cls, axes: Sequence[str], concepts: Sequence[str]) -> FeedbackRows:
        """Return the rows by the names in their order."""
        return cls(*({name: row for row, name in enumerate(names) if name} for names in (axes, concepts)))

    def name_of_concept(self, concept: str) -> str:
        """Return the name of the row that a concept has."""
        return concept if concept in self.concepts else _shared(key("concept", concept) % FEEDBACK_NAMES)

    def of(self, axis: str, concept: str) -> tuple[int, int]:
        """Return the rows of an axis and a concept; -1 for one without."""
        return self.axes.get(axis, NONE), self.concepts.get(self.name_of_concept(concept), NONE)


def _shared(number: int) -> str:
    return f"concepts, part {number}"
