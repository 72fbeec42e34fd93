"""Signals that stop a run, for good or for a while."""

from __future__ import annotations

import os
import signal


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP reached the supervisor."""


class Signals:
    """Notes SIGINT, SIGTERM, SIGHUP and SIGTSTP for the loop to act on. Main thread only.

    SIGHUP stays ignored where it was (nohup), and SIGTSTP where there is no job control.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.asked_to_pause = False

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in (signal.SIGHUP, signal.SIGTSTP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGTSTP:
            self.asked_to_pause = True
        else:
            self.received.append(number)

    def check(self, *_: object) -> None:
        """Raise Interrupted if a signal has come."""
        if self.received:
            raise Interrupted

    def pause(self) -> None:
        """Stand still, as Ctrl-Z asked for, until SIGCONT: at a moment when this process holds no lock of the ring."""
        self.asked_to_pause = False
        os.kill(os.getpid(), signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
