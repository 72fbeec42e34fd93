"""The ledger: what task `task_id` of a run is, as a pure function of the run seed.

No task needs another one's outcome, so a crashed producer's tasks are re-issued with the same seeds, nodes
take strided task ids without talking to each other, and a journal of captions is enough to render it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.base.seeding import key


@dataclass(frozen=True)
class CaptionTask:
    """One caption and its images.

    `generators` and `image_seeds` have n+ entries, one per positive image. A negative image k reuses entry k
    of both (the twin differs from its positive in the caption only), so it needs no entries of its own.
    Seeds are in [0, 2**63): they fit numpy's and torch's signed 64-bit integers.
    """

    task_id: int
    concept: str
    axis: str
    caption_seed: int
    generators: tuple[int, ...]
    image_seeds: tuple[int, ...]


class Ledger:
    """Turns task ids into tasks.

    Args:
        seed: the run seed.
        concepts: what captions are about; drawn uniformly and independently per task.
        axes: the axes along which a caption varies; drawn uniformly and independently per task.
        num_generators: m.
        positives: n+, images per caption.

    Raises:
        UserError: an empty concept or axis list, m < 1 or n+ < 1.
    """

    def __init__(
        self, seed: int, concepts: Sequence[str], axes: Sequence[str], num_generators: int, positives: int
    ) -> None:
        if not concepts or not axes:
            raise UserError(
                f"the ledger needs at least one concept and one axis, got {len(concepts)} and {len(axes)}: "
                "choose a caption bank that has both"
            )
        if num_generators < 1 or positives < 1:
            raise UserError(
                "the ledger needs at least one generator and one positive image per caption, "
                f"got {num_generators} and {positives}"
            )
        self._seed = seed
        self._concepts = tuple(concepts)
        self._axes = tuple(axes)
        self._num_generators = num_generators
        self._positives = positives

    def task(self, task_id: int) -> CaptionTask:
        """The task with this id (>= 0); equal arguments give equal tasks in every process and release."""
        assert task_id >= 0, f"task id {task_id} is negative"
        seed = self._seed
        return CaptionTask(
            task_id=task_id,
            concept=self._concepts[key(seed, "concept", task_id) % len(self._concepts)],
            axis=self._axes[key(seed, "axis", task_id) % len(self._axes)],
            caption_seed=key(seed, "caption", task_id) >> 1,
            generators=self._generators(task_id),
            image_seeds=tuple(key(seed, "image", task_id, k) >> 1 for k in range(self._positives)),
        )

    def _generators(self, task_id: int) -> tuple[int, ...]:
        """Every generator floor(n+/m) times; a task-keyed permutation hands out the remaining n+ mod m."""
        m = self._num_generators
        shuffled = sorted(range(m), key=lambda g: (key(self._seed, "generator", task_id, g), g))
        return tuple(range(m)) * (self._positives // m) + tuple(shuffled[: self._positives % m])
