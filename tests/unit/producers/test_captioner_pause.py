"""The captioner's waits: after captions.sleep_after_s without a task the source rests, once, until the next one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from polygen_stream.captions.grammar import GrammarSource
from polygen_stream.config import load_config
from polygen_stream.producers.pause import Pause


class Resting(GrammarSource):
    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    def sleep(self) -> int:
        self.sleeps += 1
        return 3 * 2**20


class Said:
    """What the captioner's heartbeats say."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def heartbeat(self, doing: str, **_: float) -> None:
        self.all.append(doing)


@pytest.mark.parametrize("sleep_after_s", [0.0, 0.15])
def test_a_source_rests_once_per_pause_and_the_heartbeat_says_what_that_freed(sleep_after_s):
    config = load_config(None, {"captions.source": "vllm", "captions.sleep_after_s": str(sleep_after_s)})
    said, source = Said(), Resting()
    pause = Pause(SimpleNamespace(config=config, ring=said), source)
    for _ in range(2):
        for _ in range(8):  # 0.4 s
            pause.take()
        pause.over()
    assert source.sleeps == (2 if sleep_after_s else 0)
    assert said.all[0] == "waiting for the renderers"
    assert ("waiting for the renderers; language models rest, 3 MiB freed" in said.all) == bool(sleep_after_s)
