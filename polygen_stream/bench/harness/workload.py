"""The workload of a throughput measurement, the same for all baselines: captioned images from producers to a consumer.

A sample is one image and its caption. Its number determines the caption; the image carries its number, and the row of
the pool it was copied from, in its first bytes, so that the consumer can check that it received the right bytes.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

POOL = 64  # different pictures; a producer that made each of them anew would measure the random generator
STAMP_BYTES = 16  # sample number and pool row, 8 bytes each


class DamagedSample(Exception):
    """The consumer received something else than a producer wrote."""


@dataclass(frozen=True)
class Work:
    """One measured case.

    Attributes:
        side: Width and height of an image, which is uint8 [side, side, 3].
        images: Samples of one round, a multiple of `batch`.
        slots: Images that may be in flight at once.
        batch: Images the ring draws at once.
        read: Images the consumer copies into its array at once.
        producers: Processes that write.
        handed: Images a producer hands over at once.
        per_caption: Images that share a caption; samples of one caption have consecutive numbers.
    """

    side: int
    images: int
    slots: int
    batch: int = 512
    read: int = 512
    producers: int = 4
    handed: int = 64
    per_caption: int = 4

    def __post_init__(self) -> None:
        assert self.images % self.batch == 0 and self.batch % self.read == 0 and self.read % self.handed == 0
        assert self.handed % self.per_caption == 0 and self.slots % self.handed == 0 and self.handed <= POOL
        assert self.slots >= self.batch + self.producers * self.handed, "producers and consumer would block"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image."""
        return self.side, self.side, 3

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return self.side * self.side * 3

    def share(self, first: int, images: int, producer: int) -> Iterator[np.ndarray]:
        """Yield what `producer` writes of samples first .. first + images - 1: int64 [handed] each."""
        for start in range(first + producer * self.handed, first + images, self.producers * self.handed):
            yield np.arange(start, start + self.handed)

    def captions(self, samples: Sequence[int] | np.ndarray) -> list[str]:
        """Return the caption of each sample."""
        return [caption_of(int(sample) // self.per_caption) for sample in samples]

    def to_json(self) -> str:
        """Return the workload as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Work:
        """Return the workload that `to_json` wrote."""
        return cls(**json.loads(text))


def caption_of(number: int) -> str:
    """Return the caption of a number, of at most CAPTION_BYTES bytes."""
    return f"a small red cube on a wooden table beside a large blue sphere, number {number}"


CAPTION_BYTES = 96


@dataclass(frozen=True)
class WorkBatch:
    """Samples of one read; the next read may overwrite `images`."""

    samples: np.ndarray  # int64 [read]
    captions: list[str]  # [read]
    images: np.ndarray  # uint8 [read, side, side, 3]


class WorkPictures:
    """Stands for a producer's renderer: images out of a pool, stamped with their sample numbers."""

    def __init__(self, work: Work) -> None:
        self.pool = np.random.default_rng(0).integers(0, 256, (POOL, *work.shape), np.uint8)
        self._stamps = self.pool.reshape(POOL, -1)[:, :STAMP_BYTES].view(np.int64)  # [POOL, 2]
        self._stamps[:, 1] = np.arange(POOL)
        self._next = 0

    def make(self, samples: np.ndarray) -> np.ndarray:
        """Return uint8 [n, side, side, 3], a view that later calls overwrite as a renderer does its output buffer."""
        count = len(samples)
        if self._next + count > POOL:
            self._next = 0
        rows = slice(self._next, self._next + count)
        self._next += count
        self._stamps[rows, 0] = samples
        return self.pool[rows]


def touch(slots: np.ndarray) -> None:
    """Map every page of shared memory into this process; a page fault costs more than the copy that is measured."""
    slots.reshape(-1)[:: mmap.PAGESIZE] = 0


class Check:
    """Compares drawn samples with written ones: the bytes of every `every`-th sample, the numbers of all."""

    def __init__(self, work: Work, pool: np.ndarray, first: int, every: int) -> None:
        self._work = work
        self._pixels = pool.reshape(POOL, -1)[:, STAMP_BYTES:]
        self._first = first
        self._every = every
        self._seen = np.zeros(work.images, np.int64)

    def batch(self, batch: WorkBatch) -> None:
        """Check one read.

        Raises:
            DamagedSample: Pixels or a caption differ, or the read has another size.
        """
        if not len(batch.samples) == len(batch.captions) == len(batch.images) == self._work.read:
            raise DamagedSample(f"a read brought {len(batch.images)} images, {self._work.read} were asked for")
        np.add.at(self._seen, batch.samples - self._first, 1)
        for position in np.flatnonzero(batch.samples % self._every == 0).tolist():
            sample = int(batch.samples[position])
            image = batch.images[position].reshape(-1)
            number, row = image[:STAMP_BYTES].view(np.int64).tolist()
            if number != sample or not 0 <= row < POOL or not np.array_equal(image[STAMP_BYTES:], self._pixels[row]):
                raise DamagedSample(f"the pixels of sample {sample} are not those that were written")
            if batch.captions[position] != caption_of(sample // self._work.per_caption):
                raise DamagedSample(f"sample {sample} came with the caption {batch.captions[position]!r}")

    def finish(self) -> None:
        """Check that every sample of the round came exactly once.

        Raises:
            DamagedSample: A sample is missing or came twice.
        """
        if (wrong := np.flatnonzero(self._seen != 1)).size:
            number = int(wrong[0])
            raise DamagedSample(f"sample {self._first + number} was drawn {self._seen[number]} times")
