"""Which rows of the feedback board the axis and the concept of a task have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polygen_stream.base.seeding import key
from polygen_stream.ring import FEEDBACK_NAMES, row_name

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

        The first FEEDBACK_NAMES axes have a row each, and so have the concepts if there are no more than that; more
        concepts share the rows, by a hash of the concept. Names are cut to what the board has room for: those that
        begin alike share a row.
        """
        named = _distinct(concepts)
        if len(named) > FEEDBACK_NAMES:
            named = [_shared(number) for number in range(FEEDBACK_NAMES)]
        return cls.of_names(_distinct(axes)[:FEEDBACK_NAMES], named)

    @classmethod
    def of_names(cls, axes: Sequence[str], concepts: Sequence[str]) -> FeedbackRows:
        """Return the rows by the names in their order, "" = none."""
        return cls(*({name: row for row, name in enumerate(names) if name} for names in (axes, concepts)))

    def name_of_axis(self, axis: str) -> str:
        """Return the name of the row that an axis has."""
        return row_name(axis)

    def name_of_concept(self, concept: str) -> str:
        """Return the name of the row that a concept has."""
        own = row_name(concept)
        return own if own in self.concepts else _shared(key("concept", concept) % FEEDBACK_NAMES)

    def of(self, axis: str, concept: str) -> tuple[int, int]:
        """Return the rows of an axis and a concept; -1 for one without."""
        return self.axes.get(row_name(axis), NONE), self.concepts.get(self.name_of_concept(concept), NONE)


def _distinct(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(map(row_name, names)) if name]


def _shared(number: int) -> str:
    return f"concepts, part {number}"
