"""Batches of a dataset of pictures, decoded here or by worker processes; whatever goes wrong there is one line.

Workers send their batches through pipes as numpy arrays. torch would put tensors into /dev/shm, which in a container
often holds less than a batch, and the batch is lost without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.evaluate.encoder import BATCH


class _Problem:
    """What went wrong, in place of a sample."""

    def __init__(self, problem: Exception) -> None:
        if isinstance(problem, UserError):
            self.text = str(problem)
        else:
            self.text = f"cannot read its pictures: {type(problem).__name__}: {' '.join(str(problem).split())}"
        self.named = isinstance(problem, UserError)


class _Guarded(Dataset):
    """A dataset whose errors are samples: an exception would lose its class on the way out of a worker."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> object:
        try:
            return self.dataset[index]
        except Exception as problem:  # raised where the batch is read, naming its dataset
            return _Problem(problem)


class _GuardedStream(IterableDataset):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[object]:
        try:
            yield from self.dataset
        except Exception as problem:  # likewise
            yield _Problem(problem)


def read_batches(dataset: Dataset, name: str, workers: int = 0) -> Iterator[tuple[Tensor, list[Any]]]:
    """Yield pictures float32 [b, 3, size, size] and their b targets, up to BATCH at a time.

    Args:
        dataset: Gives (float32 [3, size, size], target).
        name: What to call it in messages.
        workers: Processes that decode; 0 = this one.

    Raises:
        UserError: A sample cannot be used, there is none, or no worker can be started.
        PolygenError: A worker was killed.
    """
    guarded = _GuardedStream(dataset) if isinstance(dataset, IterableDataset) else _Guarded(dataset)
    if isinstance(guarded, _Guarded) and not len(guarded):
        raise UserError(f"{name} has no pictures")
    try:
        batches = iter(DataLoader(guarded, batch_size=BATCH, num_workers=workers, collate_fn=_collate))
    except OSError as problem:
        raise UserError(f"--workers {workers}: cannot start processes here ({problem}); leave --workers out") from None
    empty = True
    while True:
        try:
            found = next(batches, None)
        except RuntimeError as problem:
            if not workers:
                raise
            reason = " ".join(str(problem).split())
            raise PolygenError(f"{name}: a process of --workers {workers} died ({reason}); use fewer") from None
        if found is None:
            break
        if isinstance(found, _Problem):
            raise UserError(found.text if found.named else f"{name}: {found.text}")
        empty = False
        yield torch.from_numpy(found[0]), found[1]
    if empty:
        raise UserError(f"{name} has no pictures")


def _collate(rows: list[Any]) -> tuple[np.ndarray, list[Any]] | _Problem:
    wrong = next((row for row in rows if isinstance(row, _Problem)), None)
    if wrong is not None:
        return wrong
    return np.stack([picture.numpy() for picture, _ in rows]), [target for _, target in rows]
