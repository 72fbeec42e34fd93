"""A dm-reverb table with our semantics: drawn at random, once, and insertion waits while it is full."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import reverb

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import Work, WorkBatch, WorkPictures

TABLE = "samples"


class ReverbBaseline:
    """A server of dm-reverb with one table, and a client of it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        items = work.slots // work.handed
        table = reverb.Table(
            name=TABLE,
            sampler=reverb.selectors.Uniform(),
            remover=reverb.selectors.Fifo(),
            max_size=items,
            max_times_sampled=1,
            rate_limiter=reverb.rate_limiters.Queue(items),
        )
        self._server = reverb.Server([table])
        self._client = reverb.Client(f"localhost:{self._server.port}")
        self._producers = Producers(multiprocessing.get_context("spawn"), work, _ReverbWriter, self._server.port)
        self._out = np.empty((work.read, *work.shape), np.uint8)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples, captions = [], []
        for item in self._client.sample(TABLE, work.read // work.handed, emit_timesteps=False):
            numbers, texts, images = item.data
            start = len(samples) * work.handed
            self._out[start : start + work.handed] = images[0]
            samples.append(numbers[0])
            captions += [text.decode() for text in texts[0].tolist()]
        return WorkBatch(np.concatenate(samples), captions, self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._server.stop()


class _ReverbWriter:
    def __init__(self, work: Work, pictures: WorkPictures, port: int) -> None:
        self._work = work
        self._pictures = pictures
        self._client = reverb.Client(f"localhost:{port}")

    def write(self, samples: np.ndarray) -> None:
        captions = np.array([text.encode() for text in self._work.captions(samples)])
        self._client.insert([samples, captions, self._pictures.make(samples)], {TABLE: 1.0})

    def report(self) -> dict[str, Any]:
        return {}
