"""The interface between the captioner and its caption sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polygen_stream.base.seeding import key
from polygen_stream.schedule.ledger import CaptionTask


@dataclass(frozen=True)
class Caption:
    """A caption T+ and, if one was requested, its hard negative T-.

    Attributes:
        text: T+.
        negative: T-, or None.
        edit: the axis along which T- differs from T+, or None.
        rejected: why earlier attempts at the same task were rejected, e.g. "negative: other axis".
    """

    text: str
    negative: str | None = None
    edit: str | None = None
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """A task that ended without a caption.

    Attributes:
        rejected: why each attempt was rejected.
        text: the T+ that balancing or de-duplication rejected; None if no T+ was accepted before.
    """

    rejected: tuple[str, ...]
    text: str | None = None


def describes_scene(caption_seed: int, scene_share: float) -> bool:
    """Return whether the caption of a task describes a whole scene (`captions.scene_share`), drawn by its seed."""
    return key(caption_seed, "whole scene") / 2**64 < scene_share


class CaptionSource(ABC):
    """A source of captions for tasks. New tasks may be submitted while others are pending.

    Attributes:
        concepts: what the ledger draws concepts from.
        axes: what the ledger draws axes from; an axis that is listed twice is drawn twice as often.
    """

    concepts: Sequence[str]
    axes: Sequence[str]

    @property
    def tokens(self) -> int:
        """Number of tokens that language models have generated for this source so far."""
        return 0

    @property
    @abstractmethod
    def provenance(self) -> Mapping[str, object]:
        """JSON object that the journal records about the source. Equal provenances produce equal captions."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Number of submitted tasks whose results have not been collected."""

    @abstractmethod
    def submit(self, task: CaptionTask, with_negative: bool) -> None:
        """Submit a task.

        The result depends on the task alone, up to the numerics of a batch, and T+ is the same with and without a
        negative.

        Args:
            task: what the caption is about.
            with_negative: whether a hard negative is requested, too.
        """

    @abstractmethod
    def collect(self) -> list[Caption | Dropped]:
        """Work on the pending tasks for a short time and return the finished results, in the order of submission."""

    def sleep(self) -> int:
        """Release memory until the next task. Must be called with no pending tasks.

        Returns:
            Number of bytes that were freed.
        """
        return 0

    def close(self) -> None:  # noqa: B027 an empty default: most sources have nothing to close
        """Stop the processes and threads that the source started."""

    def write(self, tasks: Sequence[CaptionTask], with_negative: Sequence[bool]) -> list[Caption | Dropped]:
        """Submit tasks and wait for all results. No tasks may be pending before the call.

        Args:
            tasks: the tasks.
            with_negative: per task, whether a hard negative is requested.

        Returns:
            One result per task, in the same order.
        """
        for task, negative in zip(tasks, with_negative, strict=True):
            self.submit(task, negative)
        written: list[Caption | Dropped] = []
        while self.pending:
            written += self.collect()
        return written
