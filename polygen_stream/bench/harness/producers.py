"""Producer processes, for baselines that do not start their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any, Protocol

import numpy as np

from polygen_stream.bench.harness.workload import Work, WorkPictures
from polygen_stream.bench.parent_death import die_with_parent


class Inherited:
    """A file descriptor among the arguments of a producer, which receives a duplicate of it as an int."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> tuple:
        return _detach, (reduction.DupFd(self._fd),)


def _detach(duplicate: Any) -> int:
    return duplicate.detach()


class Writer(Protocol):
    """A producer's end of a baseline."""

    def write(self, samples: np.ndarray) -> None:
        """Make and hand over samples, by number: int64 [handed]. Wait for room."""
        ...

    def report(self) -> dict[str, Any]:
        """Return what was measured since the last report, once everything written has left this process."""
        ...


class Producers:
    """work.producers processes, each with a Writer.

    Args:
        context: Start method of the processes.
        work: The workload.
        connect: Makes a process's writer: connect(work, pictures, *arguments).
        arguments: Further arguments of `connect`.
    """

    def __init__(self, context: SpawnContext, work: Work, connect: Callable[..., Writer], *arguments: Any) -> None:
        self._work = work
        self._pipes: list[Any] = []
        self.processes = []
        for number in range(work.producers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_produce, args=(theirs, work, number, connect, arguments), daemon=True, name=f"producer-{number}"
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)
        for pipe in self._pipes:
            if pipe.recv() != "ready":
                raise RuntimeError("a producer said something else before it was ready")

    def begin(self, first: int, images: int) -> None:
        """Let all producers together write samples first .. first + images - 1. Return at once."""
        for pipe in self._pipes:
            pipe.send((first, images))

    def finish(self) -> list[dict[str, Any]]:
        """Wait until everything requested is written. Return the producers' reports."""
        return [pipe.recv() for pipe in self._pipes]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()  # an idle producer ends at end of file
        for process in self.processes:
            process.join(2)
            process.kill()
            process.join()


def _produce(pipe: Connection, work: Work, number: int, connect: Callable[..., Writer], arguments: tuple) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    die_with_parent(parent.pid)
    writer = connect(work, WorkPictures(work), *arguments)
    pipe.send("ready")
    while True:
        try:
            first, images = pipe.recv()
        except EOFError:
            return
        for samples in work.share(first, images, number):
            writer.write(samples)
        pipe.send(writer.report())
