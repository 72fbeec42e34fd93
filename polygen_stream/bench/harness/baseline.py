"""The interface of a baseline, and where its class is found."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Protocol

from polygen_stream.bench.harness.workload import Work, WorkBatch


class Baseline(Protocol):
    """One way to carry samples to a consumer, seen from the consumer.

    Its constructor allocates everything and starts the producers.
    """

    def __init__(self, work: Work) -> None: ...

    def begin(self, first: int) -> None:
        """Let the producers write samples first .. first + work.images - 1. Return at once."""
        ...

    def draw(self) -> WorkBatch:
        """Wait for the next work.read samples, in any order, and copy them into one array."""
        ...

    def finish(self) -> dict[str, Any]:
        """Wait for the producers after the last batch of a round. Return what they measured."""
        ...

    def close(self) -> None:
        """End the producers and free what was allocated."""
        ...


@dataclass(frozen=True)
class BaselineEntry:
    """Where a baseline is found, and how it differs from the ring.

    Attributes:
        name: Its name in tables and results.
        target: Its class, as "module:class".
        package: Package that it needs beside polygen-stream's dependencies; None: none.
        note: What it does not do that the ring does.
    """

    name: str
    target: str
    package: str | None = None
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package it needs can be found."""
        return self.package is None or importlib.util.find_spec(self.package) is not None


def load_baseline(target: str) -> type[Baseline]:
    """Import a baseline's class from its "module:class"."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
