"""Signals that stop a run."""

from __future__ import annotations

import signal


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP reached the supervisor."""


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP for the loop to act on. Main thread only."""

    def __init__(self) -> None:
        self.received: list[int] = []

    def __enter__(self) -> Signals:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {
            number: signal.signal(number, lambda received, frame: self.received.append(received)) for number in numbers
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
