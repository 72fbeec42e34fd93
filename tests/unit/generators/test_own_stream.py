"""A generator's own CUDA stream: what it renders goes there, after what was put on the default stream before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import load_recipe


class Stream:
    """A CUDA stream as far as torch's interface goes: this machine need not have a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.waited_for = device, []

    def wait_stream(self, other: object) -> None:
        self.waited_for.append(other)


class Called:
    """A pipeline on a GPU that answers with a function."""

    device = torch.device("cuda:0")

    def __init__(self, answer) -> None:
        self._answer = answer

    def __call__(self, **words: object) -> SimpleNamespace:
        return self._answer(**words)


def test_a_pipeline_on_a_gpu_renders_on_its_own_stream_and_after_the_weights_are_there(monkeypatch: pytest.MonkeyPatch):
    default, current = Stream(torch.device("cuda:0")), []

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current[-1] if current else default)

    def pipeline(prompt: list[str], **_: object) -> SimpleNamespace:
        seen.append(torch.cuda.current_stream())
        return SimpleNamespace(images=torch.rand(len(prompt), 3, 8, 8))

    seen: list[Stream] = []
    generator = Generator(load_recipe("micro/sd15"), Called(pipeline))
    generator.use_own_stream()
    for _ in range(2):
        assert generator.render(["a", "b"], [1, 2]).shape == (2, 8, 8, 3)
    own = seen[0]
    assert seen == [own, own] and own is not default
    assert own.waited_for == [default, default]


def test_on_a_cpu_there_is_no_stream():
    generator = load_generator(load_recipe("micro/sdxl_turbo"))
    generator.use_own_stream()
    assert generator._stream is None
