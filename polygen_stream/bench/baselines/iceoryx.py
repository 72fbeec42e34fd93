"""iceoryx2 publish-subscribe: messages of several pictures, written in place; a full subscriber blocks publishers."""

from __future__ import annotations

import ctypes
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import iceoryx2
import numpy as np

from polygen_stream.bench.harness.producers import Producers
from polygen_stream.bench.harness.workload import CAPTION_BYTES, Work, WorkBatch, WorkPictures

PAUSE_S = 0.1e-3
Bytes = iceoryx2.Slice[ctypes.c_uint8]


class IceoryxBaseline:
    """A subscriber of iceoryx2, with one publisher per producer."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._service = _service(work)
        self._subscriber = self._service.subscriber_builder().create()
        self._producers = Producers(multiprocessing.get_context("spawn"), work, _IceoryxWriter)
        self._out = np.empty((work.read, *work.shape), np.uint8)

    def begin(self, first: int) -> None:
        """Let the producers write a round of samples, from number `first`."""
        self._producers.begin(first, self._work.images)

    def draw(self) -> WorkBatch:
        """Return the next work.read samples, copied into one array."""
        work = self._work
        samples, captions = [], []
        while len(samples) < work.read // work.handed:
            message = self._subscriber.receive()
            if message is None:
                time.sleep(PAUSE_S)
                continue
            numbers, texts, images = _parts(work, message.payload())
            start = len(samples) * work.handed
            self._out[start : start + work.handed] = images
            samples.append(numbers.copy())
            captions += [bytes(text).rstrip(b"\0").decode() for text in texts]
            message.delete()
        return WorkBatch(np.concatenate(samples), captions, self._out)

    def finish(self) -> dict[str, Any]:
        """Wait for the producers. Return what they measured."""
        self._producers.finish()
        return {}

    def close(self) -> None:
        """End the producers and free what was allocated."""
        self._producers.close()
        self._subscriber.delete()


class _IceoryxWriter:
    def __init__(self, work: Work, pictures: WorkPictures) -> None:
        self._work = work
        self._pictures = pictures
        self._service = _service(work)
        self._publisher = (
            self._service.publisher_builder()
            .initial_max_slice_len(_message_bytes(work))
            .max_loaned_samples(1)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )

    def write(self, samples: np.ndarray) -> None:
        work = self._work
        message = self._publisher.loan_slice_uninit(_message_bytes(work))
        numbers, texts, images = _parts(work, message.payload())
        numbers[:] = samples
        captions = b"".join(text.encode().ljust(CAPTION_BYTES, b"\0") for text in work.captions(samples))
        texts[:] = np.frombuffer(captions, np.uint8).reshape(texts.shape)
        images[:] = self._pictures.make(samples)
        message.assume_init().send()

    def report(self) -> dict[str, Any]:
        return {}


def _service(work: Work) -> Any:
    """The same service for every process that shares our TMPDIR; its files go there, its memory is named after it."""
    folder = Path(tempfile.gettempdir())
    config = iceoryx2.config.default()
    config.global_cfg.root_path = iceoryx2.Path.new(str(folder))
    config.global_cfg.prefix = iceoryx2.FileName.new(f"{folder.name}_")
    node = iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)
    return (
        node.service_builder(iceoryx2.ServiceName.new("samples"))
        .publish_subscribe(Bytes)
        .enable_safe_overflow(False)
        .max_publishers(work.producers)
        .subscriber_max_buffer_size(max(1, work.slots // work.handed // work.producers))
        .open_or_create()
    )


def _message_bytes(work: Work) -> int:
    return work.handed * (8 + CAPTION_BYTES + work.image_bytes)


def _parts(work: Work, payload: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of a message: sample numbers, captions, pictures."""
    memory = np.frombuffer(payload.as_memory_view(), np.uint8)
    texts, images = 8 * work.handed, (8 + CAPTION_BYTES) * work.handed
    return (
        memory[:texts].view(np.int64),
        memory[texts:images].reshape(work.handed, CAPTION_BYTES),
        memory[images:].reshape(work.handed, *work.shape),
    )
