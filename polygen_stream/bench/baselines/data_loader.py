"""A DataLoader with workers over a shared array, one half of which is written while the other is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch.utils.data import DataLoader, Dataset, Sampler

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import CAPTION_BYTES, Work, WorkBatch, WorkPictures, touch
from polygen_stream.bench.parent_death import die_with_parent

WORKERS = 2


class DataLoaderBaseline:
    """A torch DataLoader that reads one half of a shared array while the producers write the other."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(1)
        self._work = work
        context = multiprocessing.get_context("spawn")
        arrays = _Arrays(work)
        self._half = work.slots // 2 // work.read * work.read
        self._producers = Producers(context, work, _LoaderWriter, arrays, self._half)
        self._sampler = _HalfSampler(self._half, work.read)
        self._loader = DataLoader(
            _SharedDataset(arrays),
            batch_sampler=self._sampler,
            num_workers=WORKERS,
            collate_fn=_identity,
            persistent_workers=True,
            multiprocessing_context=context,
            worker_init_fn=_start_worker,
        )

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._batches = self._round(first)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        return next(self._batches)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        del self._loader

    def _round(self, first: int) -> Iterator[WorkBatch]:
        last = first + self._work.images
        windows = [(start, min(self._half, last - start)) for start in range(first, last, self._half)]
        self._producers.begin(*windows[0])
        for number, (start, images) in enumerate(windows):
            self._producers.finish()
            if number + 1 < len(windows):
                self._producers.begin(*windows[number + 1])
            self._sampler.read(start, images)
            for samples, captions, batch in self._loader:
                texts = [bytes(text).rstrip(b"\0").decode() for text in captions.numpy()]
                yield WorkBatch(samples.numpy(), texts, batch.numpy())


class _Arrays:
    def __init__(self, work: Work) -> None:
        self.sample = torch.zeros(work.slots, dtype=torch.int64).share_memory_()
        self.caption = torch.zeros((work.slots, CAPTION_BYTES), dtype=torch.uint8).share_memory_()
        self.image = torch.zeros((work.slots, *work.shape), dtype=torch.uint8).share_memory_()


class _SharedDataset(Dataset):
    def __init__(self, arrays: _Arrays) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays.sample)

    def __getitems__(self, slots: list[int]) -> tuple[torch.Tensor, ...]:
        index, arrays = torch.tensor(slots), self._arrays
        return arrays.sample[index], arrays.caption[index], arrays.image[index]


class _HalfSampler(Sampler):
    """Random batches of the slots of one window of samples."""

    def __init__(self, half: int, batch: int) -> None:
        self._half, self._batch = half, batch
        self._random = np.random.default_rng(0)
        self.read(0, 0)

    def read(self, start: int, images: int) -> None:
        self._slots = _slots(np.arange(start, start + images), self._half)

    def __len__(self) -> int:
        return len(self._slots) // self._batch

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._random.permutation(self._slots).reshape(-1, self._batch).tolist()


class _LoaderWriter:
    def __init__(self, work: Work, pictures: WorkPictures, arrays: _Arrays, half: int) -> None:
        torch.set_num_threads(1)
        self._work, self._pictures, self._arrays, self._half = work, pictures, arrays, half
        touch(arrays.image.numpy())

    def write(self, samples: np.ndarray) -> None:
        slots = torch.from_numpy(_slots(samples, self._half))
        texts = b"".join(text.encode().ljust(CAPTION_BYTES, b"\0") for text in self._work.captions(samples))
        self._arrays.sample[slots] = torch.from_numpy(samples)
        self._arrays.caption[slots] = torch.frombuffer(bytearray(texts), dtype=torch.uint8).view(-1, CAPTION_BYTES)
        self._arrays.image[slots] = torch.from_numpy(self._pictures.make(samples))

    def report(self) -> dict[str, Any]:
        return {}


def _slots(samples: np.ndarray, half: int) -> np.ndarray:
    """Windows of `half` samples go to the two halves of the array in turn."""
    return samples % (2 * half)


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(_number: int) -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    die_with_parent(parent.pid)
