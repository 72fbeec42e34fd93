"""What every caption source offers to the captioner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polygen_stream.schedule.ledger import CaptionTask


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


class CaptionSource(ABC):
    """Writes captions for tasks, which it is handed while it works. The ledger draws from `concepts` and `axes`.

    `tokens` counts those that language models wrote for it so far.
    """

    concepts: Sequence[str]
    axes: Sequence[str]
    tokens: int = 0

    @property
    @abstractmethod
    def provenance(self) -> Mapping[str, object]:
        """What a journal says of who wrote its captions, as JSON: equal provenances write equal captions."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Tasks that were handed in and have not come back."""

    @abstractmethod
    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Hand in a task. What comes of it is a function of the task alone up to the numerics of a batch.

        T+ does not depend on whether a negative is asked for.
        """

    @abstractmethod
    def collect(self) -> list[Caption | Dropped]:
        """Work for a moment on what is pending; one result per task, in the order in which they were handed in."""

    def sleep(self) -> int:
        """Give back memory until the next task, with nothing pending. Returns how many bytes were freed."""
        return 0

    def close(self) -> None:  # noqa: B027 most have nothing to end
        """End whatever the source started."""

    def write(self, tasks: Sequence[CaptionTask], with_negative: Sequence[bool]) -> list[Caption | Dropped]:
        """One result per task, with nothing pending before and after."""
        for task, negative in zip(tasks, with_negative, strict=True):
            self.submit(task, negative)
        written: list[Caption | Dropped] = []
        while self.pending:
            written += self.collect()
        return written
