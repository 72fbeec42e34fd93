"""Why a policy chose a task: what the journal keeps of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polygen_stream.base.records import is_count, is_number


@dataclass(frozen=True)
class Choice:
    """A task that was chosen among several.

    Attributes:
        step: the latest training step whose feedback was there; -1 = none yet.
        candidates: number of tasks that it was chosen from.
        weight: how much it was wanted, relative to the mean of the candidates.
    """

    step: int
    candidates: int
    weight: float

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Choice:
        """Return a choice as it was written.

        Raises:
            TypeError, ValueError: it has other fields, or other types of values.
        """
        choice = cls(**record)
        if not (is_count(choice.step + 1) and is_count(choice.candidates) and choice.candidates):
            raise ValueError(f"choice is {record!r}")
        if not is_number(choice.weight) or choice.weight < 0:
            raise ValueError(f"choice.weight is {choice.weight!r}")
        return choice
