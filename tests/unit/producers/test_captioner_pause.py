"""The captioner's waits: after captions.sleep_after_s without a task the source sleeps, once, until the next one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.config import load_config
from polygen_stream.producers.pause import Pause


class SleepCounter(GrammarSource):
    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    def sleep(self) -> int:
        self.sleeps += 1
        return 3 * 2**20


class HeartbeatRecorder:
    """A ring that keeps what its heartbeats say."""

    def __init__(self) -> None:
        self.heartbeats: list[str] = []

    def heartbeat(self, doing: str, **_: float) -> None:
        self.heartbeats.append(doing)


@pytest.mark.parametrize("sleep_after_s", [0.0, 0.15])
def test_a_source_sleeps_once_per_pause_and_the_heartbeat_says_what_that_freed(sleep_after_s):
    config = load_config(None, {"captions.source": "vllm", "captions.sleep_after_s": str(sleep_after_s)})
    ring, source = HeartbeatRecorder(), SleepCounter()
    pause = Pause(SimpleNamespace(config=config, ring=ring), source)
    for _ in range(2):
        for _ in range(8):  # 0.4 s
            pause.wait()
        pause.end()
    assert source.sleeps == (2 if sleep_after_s else 0)
    assert ring.heartbeats[0] == "waiting for the renderers"
    assert ("waiting for the renderers; language models sleep, 3 MiB freed" in ring.heartbeats) == bool(sleep_after_s)
