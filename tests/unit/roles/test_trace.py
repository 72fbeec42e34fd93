"""Heartbeats become spans: what was done, what was waited for, and one span where polling makes many."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from polygen_stream.roles.trace import TraceFile, Tracer


class Traced:
    """A tracer under a clock that the test moves; times in seconds."""

    def __init__(self, folder):
        self.now, self._folder = 0.0, folder
        self.tracer = Tracer(TraceFile(folder, "renderer"), clock=lambda: round(self.now * 1e9))

    def at(self, now: float, doing: str, waited_s: float = 0.0, busy_s: float = 0.0) -> None:
        self.now = now
        self.tracer.heartbeat(doing, waited_s, busy_s)

    def spans(self) -> list[tuple[str, float, float]]:
        """(name, start, end)"""
        self.tracer.close()
        [file] = (self._folder / "trace").iterdir()
        _, *lines = map(json.loads, file.read_text().splitlines())
        return [(line["name"], line["t"] / 1e9, (line["t"] + line["d"]) / 1e9) for line in lines]


@pytest.fixture
def traced(tmp_path):
    return Traced(tmp_path)


def test_a_renderers_life(traced):
    """As producers/renderer.py makes heartbeats: what begins is named first, what took how long is said later."""
    traced.at(1.0, "loading the model")
    traced.at(5.02, "waiting for captions", waited_s=0.02)
    for poll in range(1, 50):
        traced.at(5.02 + 0.021 * poll, "waiting for captions", waited_s=0.02)
    traced.at(7.0, "rendering 4 images")
    traced.at(8.0, "rendered", busy_s=1.001)
    assert [(name, pytest.approx(start), pytest.approx(end)) for name, start, end in traced.spans()] == [
        ("loading the model", 1.0, 5.0),
        ("waiting for captions", 5.0, 6.049),
        ("rendering 4 images", 6.999, 8.0),
    ]


def test_a_trainers_steps(traced):
    for step in range(2):
        traced.at(step + 0.1, "waiting to draw 4 plain + 2 pair")  # inside of the ring, again and again
        traced.at(step + 0.3, "waiting to draw 4 plain + 2 pair")
        traced.at(step + 1.0, f"step {step + 1} of 2", waited_s=0.5, busy_s=0.45)
    assert [(name, pytest.approx(start), pytest.approx(end)) for name, start, end in traced.spans()] == [
        ("waiting", 0.05, 0.55),
        ("step 1 of 2", 0.55, 1.0),
        ("waiting", 1.05, 1.55),
        ("step 2 of 2", 1.55, 2.0),
    ]


def test_spans_never_overlap_whatever_the_heartbeats_claim(traced):
    traced.at(2.0, "a", busy_s=1.0)
    traced.at(2.5, "b", busy_s=3.0)
    traced.at(2.6, "c", waited_s=9.0, busy_s=0.05)
    spans = traced.spans()
    assert [name for name, *_ in spans] == ["a", "b", "waiting", "c"]
    assert all(end <= start for (_, _, end), (_, start, _) in pairwise(spans))


def test_what_is_under_way_at_the_end_is_written(traced):
    traced.at(1.0, "writing the report")
    traced.now = 4.0
    assert traced.spans() == [("writing the report", 1.0, 4.0)]
