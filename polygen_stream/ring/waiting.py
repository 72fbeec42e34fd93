"""Waiting by polling, with back-off and a deadline: no condition variable survives a dead signaller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from polygen_stream.ring.errors import WaitStopped

FIRST_PAUSE_S = 50e-6
LONGEST_PAUSE_S = 2e-3

Result = TypeVar("Result")


def wait_for(
    attempt: Callable[[], Result | None],
    timeout_s: float,
    while_waiting: Callable[[], None],
    stop: Callable[[], bool] | None,
) -> tuple[Result | None, float]:
    """Calls `attempt` until it returns something or the deadline passes (None). Also the seconds waited.

    `while_waiting` is called before every pause (heartbeats). Raises WaitStopped when `stop` says so.
    """
    started = time.monotonic()
    result = attempt()
    if result is not None:
        return result, 0.0
    pause = FIRST_PAUSE_S
    while True:
        waited = time.monotonic() - started
        if result is not None or waited >= timeout_s:
            return result, waited
        if stop is not None and stop():
            raise WaitStopped(f"a wait of {waited:.1f} s was given up because the process is stopping")
        while_waiting()
        time.sleep(min(pause, timeout_s - waited))
        pause = min(2 * pause, LONGEST_PAUSE_S)
        result = attempt()
