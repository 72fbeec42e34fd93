"""The captioner's waits for the renderers, during which its language models may give back their memory."""

from __future__ import annotations

import time

from polygen_stream.captions.base import CaptionSource
from polygen_stream.roles.role import RoleContext

POLL_S = 0.05
WAITING = "waiting for the renderers"


class Pause:
    """Short waits in a row. Once they add up to captions.sleep_after_s, the source is put to sleep.

    Args:
        context: config and ring.
        source: what to put to sleep; it wakes up when it gets a task. None if there is none yet.
    """

    def __init__(self, context: RoleContext, source: CaptionSource | None = None) -> None:
        self._context, self._source = context, source
        self._pause_start: float | None = None
        self._asleep = False
        self._doing = WAITING

    def wait(self) -> None:
        """Wait for POLL_S seconds, and put the source to sleep if the pause has been long enough."""
        ring, sleep_after_s = self._context.ring, self._context.config.captions.sleep_after_s
        start = time.monotonic()
        self._pause_start = self._pause_start or start
        if self._source and sleep_after_s and not self._asleep and start - self._pause_start > sleep_after_s:
            ring.heartbeat("putting the language models to sleep")
            freed = self._source.sleep()
            self._asleep = True
            self._doing = f"{WAITING}; language models sleep, {freed / 2**20:.0f} MiB freed"
            print(self._doing, flush=True)
        time.sleep(POLL_S)
        ring.heartbeat(self._doing, waited_s=time.monotonic() - start)

    def end(self) -> None:
        """End the pause: the source gets a task."""
        self._pause_start, self._asleep, self._doing = None, False, WAITING
