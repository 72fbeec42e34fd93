"""Caption sources for the tests under vLLM, shared because an engine takes about 15 s to start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polygen_stream.captions.base import CaptionSource
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import CaptionsConfig
from polygen_stream.schedule.ledger import CaptionTask, Ledger

SMOLLM2 = Path(__file__).resolve().parents[2] / ".models" / "smollm2-135m-instruct"
CONCEPTS = (
    "dog", "red apple", "fire engine", "wooden table", "umbrella", "mountain lake", "bicycle", "coffee cup",
    "lighthouse", "white horse", "pizza", "sailing boat", "teapot", "sunflower", "old car", "street lamp",
)  # fmt: skip


@pytest.fixture(scope="session")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small English bank."""
    file = tmp_path_factory.mktemp("bank") / "concepts.json"
    file.write_text(json.dumps(CONCEPTS))
    return file


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The folder of SmolLM2-135M-Instruct, which make vllm-test fetches."""
    assert (SMOLLM2 / "config.json").is_file(), f"{SMOLLM2} is missing: tools/fetch_smollm2.py"
    return str(SMOLLM2)


@pytest.fixture(scope="session")
def micro() -> Iterator[CaptionSource]:
    """The micro Mistral and Llama, each in its own engine, with up to 64 requests at once, able to sleep."""
    source = caption_source(CaptionsConfig(source="vllm", batch=64, backlog=128, sleep_after_s=1.0))
    yield source
    source.close()


@pytest.fixture
def open_source() -> Iterator[Callable[..., CaptionSource]]:
    """Opens a source for one test: open_source(**keys of the captions section)."""
    opened = []

    def start(**values: object) -> CaptionSource:
        opened.append(caption_source(CaptionsConfig(**values)))
        return opened[-1]

    yield start
    for source in opened:
        source.close()


@pytest.fixture
def tasks() -> Callable[[CaptionSource, int], list[CaptionTask]]:
    def draw(source: CaptionSource, count: int) -> list[CaptionTask]:
        ledger = Ledger(11, source.concepts, source.axes, 4, 4)
        return [ledger.task(number) for number in range(count)]

    return draw
