"""The live view, fed by a real ring and a real metrics file."""

from __future__ import annotations

import io
import json
import os
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from polygen_stream.config import load_config
from polygen_stream.launch.watch.live_view import StatusView
from polygen_stream.launch.watch.metrics_tail import MetricsTail
from polygen_stream.launch.watch.run_status import StatusTracker
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingSpec


@pytest.fixture
def ring():
    spec = RingSpec(
        slots=16, image_shape=(4, 4, 3), groups=8, members=2, caption_bytes=16,
        generators=("micro/sd15", "micro/sana"), seed=0,
    )  # fmt: skip
    with closing(Ring.create(spec)) as ring:
        ring.register("renderer", "renderer-micro-sd15")
        yield ring


def show(tmp_path, ring, terminal, updates=1):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=140, height=40, highlight=False)
    view = StatusView(load_config(None, {"train.steps": "600"}), tmp_path, console)
    tail, watch = MetricsTail(tmp_path / "metrics.jsonl"), StatusTracker(tmp_path)
    for _ in range(updates):
        tail.read()
        view.update(watch.take(ring.stats(), tail, []))
    view.close()
    return screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_view_before_anything_happened(tmp_path, ring, terminal):
    shown = show(tmp_path, ring, terminal)
    assert "micro/sd15" in shown and "micro/sana" in shown


def fill(ring, tmp_path):
    for task in range(2):
        ring.open_group(task, Kind.PLAIN, f"a fish {task}", None, [Member(0, 0, 1), Member(1, 0, 1)], timeout_s=1)
    claims = ring.claim([0], 8)
    ring.commit(claims, np.zeros((len(claims), 4, 4, 3), np.uint8))
    ring.heartbeat("painting", waited_s=1.0, busy_s=3.0)
    lines = [
        {"step": step, "time": step / 2, "loss": 4.125, "p": 0.25, "wait_s": 0.1, "step_s": 0.3} for step in range(100)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 100, ')


def test_screen_shows_training_generators_and_ring(tmp_path, ring):
    fill(ring, tmp_path)
    shown = show(tmp_path, ring, terminal=True)
    for expected in ("100 / 600", "2.00", "4:10", "4.1250", "0.250", "25 % of the last 50 steps", "plain", "pair"):
        assert expected in shown, expected


def test_plain_lines_are_not_printed_at_every_update(tmp_path, ring):
    fill(ring, tmp_path)
    shown = show(tmp_path, ring, terminal=False, updates=3)
    lines = [line for line in shown.splitlines() if "steps/s" in line]
    assert len(lines) == 1
    assert (
        "step 100/600  2.00 steps/s  loss 4.125  p 0.25  trainer waits 25 % of the last 50 steps  ETA 4:10" in lines[0]
    )
    assert "\x1b" not in shown


def test_process_table_names_what_each_process_does(tmp_path, ring):
    from polygen_stream.launch.children import Child
    from polygen_stream.launch.process_plan import ProcessSpec

    class Handle:
        pid = os.getpid()

    fill(ring, tmp_path)
    child = Child(ProcessSpec("renderer-micro-sd15", "renderer", (), "micro/sd15"), Handle(), tmp_path / "log", 0.0)
    screen = io.StringIO()
    view = StatusView(
        load_config(None, {"train.steps": "600"}),
        tmp_path,
        Console(file=screen, force_terminal=True, width=140, height=40),
    )
    view.update(StatusTracker(tmp_path).take(ring.stats(), MetricsTail(tmp_path / "metrics.jsonl"), [child]))
    view.close()
    assert "renderer micro/sd15" in screen.getvalue()
    assert "painting" in screen.getvalue()


def test_the_fill_before_the_first_step_and_the_first_batch(tmp_path):
    spec = RingSpec(
        slots=16, image_shape=(4, 4, 3), groups=8, members=1, caption_bytes=16, generators=("a",), seed=0, min_fill=2,
        max_times_sampled=1,
    )  # fmt: skip
    with closing(Ring.create(spec)) as ring:
        ring.register("renderer", "renderer-a")
        for task, said in enumerate(("filling the ring: 1 of 2 complete", "the first batch is being drawn")):
            ring.open_group(task, Kind.PLAIN, f"a fish {task}", None, [Member(0, 0, 1)], timeout_s=1)
            ring.commit(ring.claim([0], 8), np.zeros((1, 4, 4, 3), np.uint8))
            assert said in show(tmp_path, ring, terminal=False)
        ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
        for terminal in (False, True):
            said = " ".join(show(tmp_path, ring, terminal).split())
            assert "0 of 2 complete captions may still be drawn (ring.max_times_sampled = 1)" in said
