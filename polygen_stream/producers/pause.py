"""The captioner's waits for the renderers, in which its language models may give their memory back."""

from __future__ import annotations

import time

from polygen_stream.captions.base import CaptionSource
from polygen_stream.roles.role import RoleContext

POLL_S = 0.05


class Pause:
    """Short waits in a row; once they add up to captions.sleep_after_s, the source rests until it gets a task."""

    def __init__(self, context: RoleContext, source: CaptionSource | None = None) -> None:
        self._context, self._source = context, source
        self._began: float | None = None
        self._doing = "waiting for the renderers"

    def take(self) -> None:
        """One short wait."""
        ring, sleep_after_s = self._context.ring, self._context.config.captions.sleep_after_s
        began = time.monotonic()
        self._began = self._began or began
        if self._source and sleep_after_s and "rest" not in self._doing and began - self._began > sleep_after_s:
            ring.heartbeat("putting the language models to rest")
            freed = self._source.sleep()
            self._doing = f"waiting for the renderers; language models rest, {freed / 2**20:.0f} MiB freed"
            print(self._doing, flush=True)
        time.sleep(POLL_S)
        ring.heartbeat(self._doing, waited_s=time.monotonic() - began)

    def over(self) -> None:
        self._began, self._doing = None, "waiting for the renderers"
