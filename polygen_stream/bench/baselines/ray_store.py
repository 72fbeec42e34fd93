"""Ray's object store: actors put batches of pictures, the driver gets them without a copy and gathers its batch."""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from typing import Any

import numpy as np
import ray

from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures


class RayBaseline:
    """Actors of a local Ray cluster."""

    def __init__(self, work: Work) -> None:
        self._work = work
        ray.init(
            num_cpus=work.producers,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            # objects on their way, those being read, and the same again as headroom
            object_store_memory=2 * (work.slots + work.read) * (work.image_bytes + 1024) + 2**27,
            _temp_dir=tempfile.gettempdir(),
        )
        self._producers = [_Actor.remote(work) for _ in range(work.producers)]
        ray.get([producer.ready.remote() for producer in self._producers])
        self._out = np.empty((work.read, *work.shape), np.uint8)
        self._running: dict[Any, int] = {}  # object reference -> producer

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        work = self._work
        self._wanted = [deque(work.share(first, work.images, number)) for number in range(work.producers)]
        for number in range(work.producers):
            for _ in range(max(1, work.slots // work.handed // work.producers)):
                self._ask(number)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples, captions = [], []
        while len(samples) < work.read // work.handed:
            done, _ = ray.wait(list(self._running), num_returns=1)
            for reference in done:
                numbers, texts, images = ray.get(reference)
                start = len(samples) * work.handed
                self._out[start : start + work.handed] = images
                samples.append(numbers)
                captions += texts
                self._ask(self._running.pop(reference))
        return WorkBatch(np.concatenate(samples), captions, self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        ray.shutdown()

    def _ask(self, number: int) -> None:
        if self._wanted[number]:
            self._running[self._producers[number].write.remote(self._wanted[number].popleft())] = number


class _Producer:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._pictures = WorkPictures(work)

    def ready(self) -> bool:
        return True

    def write(self, samples: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray]:
        """What a task returns, Ray copies into its object store."""
        return samples, self._work.captions(samples), self._pictures.make(samples)


_Actor: Any = ray.remote(num_cpus=1)(_Producer)
