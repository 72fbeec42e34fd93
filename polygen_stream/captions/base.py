"""What every caption source offers to the captioner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from polygen_stream.ledger import Task


@dataclass(frozen=True)
class Caption:
    """T+ and, where one was asked for, its hard negative T- and the edit that made it.

    `rejected` says why earlier attempts of the same task were refused, e.g. "negative: other axis".
    """

    text: str
    negative: str | None = None
    edit: str | None = None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """A task without a caption, and why its attempts were refused.

    `text` is the T+ that balancing or de-duplication refused; None where it never came that far.
    """

    rejected: tuple[str, ...]
    text: str | None = None


class CaptionSource(Protocol):
    """Writes captions for tasks. The ledger draws from `concepts` and `axes`."""

    concepts: Sequence[str]
    axes: Sequence[str]

    @property
    def provenance(self) -> Mapping[str, object]:
        """What a journal says of who wrote its captions, as JSON: equal provenances write equal captions."""
        ...

    def write(self, tasks: Sequence[Task], with_negative: Sequence[bool]) -> list[Caption | Dropped]:
        """One result per task, a function of the task alone up to the numerics of a batch.

        T+ does not depend on whether a negative is asked for.
        """
        ...
