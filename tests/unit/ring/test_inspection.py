"""What `inspect` says about a ring whose state is known, and the pictures it shows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from small_rings import open_pair, open_plain, pictures, render

from polygen_stream.launch.watch.inspect_client import open_inspected
from polygen_stream.launch.watch.inspect_view import show
from polygen_stream.ring import DrawRequest, Ring, RingTimeout, WaitStopped
from polygen_stream.ring.inspection import Inspection, inspect_state
from polygen_stream.ring.snapshot import save_snapshot
from polygen_stream.ring.state import copy_state


def look(ring: Ring) -> Inspection:
    return inspect_state(copy_state(ring._control), running=True)


def busy_ring(new_ring, **changes) -> Ring:
    """Tasks 0-2 plain and 10 a pair, all complete; 3 open, one of its members being written; 1 draw leased."""
    ring = new_ring(**changes)
    for task in range(3):
        open_plain(ring, task)
    open_pair(ring, 10)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 2, 1), 0.0))
    ring.set_step(5)
    open_plain(ring, 3)
    ring.claim([0], 1)
    ring.heartbeat("thinking", waited_s=1.0, busy_s=3.0)
    ring.draw(DrawRequest(1, 3, 0), 0.0)
    return ring


def test_fill_by_generator_and_state(new_ring):
    found = look(busy_ring(new_ring))
    assert found.members == {
        "one": {"wanted": 0, "writing": 1, "ready": 5, "failed": 0},
        "two": {"wanted": 1, "writing": 0, "ready": 5, "failed": 0},
    }
    plain, pair = found.stats.groups["plain"], found.stats.groups["pair"]
    assert (plain["open"], plain["complete"], plain["leased"]) == (1, 3, 3)
    assert (pair["open"], pair["complete"], pair["leased"]) == (0, 1, 0)
    assert found.slots - found.stats.free_slots == 12


def test_owners_and_what_they_hold(new_ring):
    ring = busy_ring(new_ring)
    [owner] = look(ring).owners
    assert (owner.role, owner.alive, owner.doing) == ("test", True, "thinking")
    assert (owner.writing, owner.leases, owner.wait_s, owner.busy_s) == (1, 3, 1.0, 3.0)
    assert 0 <= owner.heartbeat_age_s < 60
    [unknown] = inspect_state(copy_state(ring._control), running=False).owners
    assert unknown.alive is None


def test_reuse_and_ages(new_ring):
    found = look(busy_ring(new_ring))
    assert found.reuse == {"plain": {1: 1, 2: 2}, "pair": {1: 1}}
    complete, opened = found.oldest["complete"], found.oldest["open"]
    assert (complete.task_id, complete.openings, complete.steps) == (0, 4, 5)
    assert (opened.task_id, opened.openings, opened.steps) == (3, 0, 0)


def test_an_empty_ring_can_be_looked_at(new_ring):
    found = look(new_ring())
    assert found.oldest == {} and found.reuse == {"plain": {}, "pair": {}}


def shown(path: Path) -> str:
    inspected = open_inspected(path)
    console = Console(file=StringIO(), width=120, highlight=False)
    show(inspected, inspect_state(inspected.state, inspected.running), console)
    return console.file.getvalue()


def row(text: str, first: str) -> list[str]:
    """The words of the line that starts with `first`."""
    [line] = [line for line in text.splitlines() if line.startswith(first)]
    return line.removeprefix(first).split()


def test_tables_of_a_snapshot(new_ring, tmp_path):
    save_snapshot(busy_ring(new_ring, samples_per_insert=2.0, error_buffer=8.0), tmp_path / "ring", payload=False)
    text = shown(tmp_path / "ring")
    assert f"snapshot {tmp_path / 'ring'} of " in text and ", step 5" in text
    assert row(text, "one")[:5] == ["0", "1", "5", "0", "5"]
    assert row(text, "1 ")[:2] == ["1", "1"] and row(text, "2-3")[:2] == ["2", "0"]
    # 4 completed x 2 - 6 drawn, of a window 2 +- 8
    assert "-6 [------------|------------] 10, now 2 " in text
    assert "task 0: 4 openings and 5 steps ago" in text
    assert row(text, "test")[1:2] == ["?"]


def test_captions_that_are_used_up_are_told_from_those_that_may_be_drawn(new_ring, tmp_path):
    ring = new_ring(max_times_sampled=1)
    for task in range(3):
        open_plain(ring, task)
    open_pair(ring, 3)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
    assert look(ring).stats.drawable == {"plain": 1, "pair": 1}
    save_snapshot(ring, tmp_path / "ring", payload=False)
    assert "2 of 4 complete captions may still be drawn (ring.max_times_sampled = 1)" in shown(tmp_path / "ring")
    with pytest.raises(
        RingTimeout, match=r"2 of 4 complete captions may still be drawn \(ring.max_times_sampled = 1\)"
    ):
        ring.draw(DrawRequest(1, 3, 0), 0.0)


def test_captions_that_are_too_old_are_told_too(new_ring):
    ring = new_ring(max_age=2)
    open_plain(ring, 0)
    ring.set_step(3)
    open_plain(ring, 1)
    render(ring)
    assert ring.stats().draw_bounds == ["1 of 2 complete captions may still be drawn (ring.max_age = 2)"]


def test_a_draw_that_the_limiter_holds_back_is_told(new_ring):
    ring, told = new_ring(samples_per_insert=1.0, error_buffer=2.0), []
    open_plain(ring, 0)
    render(ring)

    def stop() -> bool:
        told.extend(ring.stats().draw_bounds)
        return bool(told)

    with pytest.raises(WaitStopped):
        for step in range(9):
            ring.release(ring.draw(DrawRequest(step, 1, 0), 1.0, stop))
    [said] = told
    assert "the rate limiter holds a draw back" in said and "ring.samples_per_insert = 1" in said
    assert ring.stats().draw_bounds == []


def inspect(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "inspect", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_json_and_pictures_of_a_snapshot(new_ring, tmp_path):
    """Every stored picture of a chosen caption is in the grid, recognisable by its colour."""
    ring = new_ring(image_shape=(8, 8, 3))
    open_plain(ring, 0)
    open_plain(ring, 1)
    colours = {}
    for claim in [*ring.claim([0], 9), *ring.claim([1], 9)]:
        colours[claim.task_id, claim.generator] = colour = (200, 40 * claim.task_id, 90 * claim.generator + 20)
        assert ring.commit([claim], np.full((1, 8, 8, 3), colour, np.uint8)) == [True]
    save_snapshot(ring, tmp_path / "ring", payload=True, tasks=[1])
    done = inspect(tmp_path / "ring", "--json", "--images", tmp_path / "grid.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["running"] is False
    assert found["stats"]["groups"]["plain"]["complete"] == 2
    assert found["owners"][0]["alive"] is None
    assert done.stderr == f"1 captions in {tmp_path / 'grid.png'}\n"
    with Image.open(tmp_path / "grid.png") as grid:
        seen = {colour for _, colour in grid.convert("RGB").getcolors(maxcolors=2**24)}
    assert {task for (task, _), colour in colours.items() if colour in seen} == {1}
    assert {colours[1, 0], colours[1, 1]} <= seen


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nowhere"], ["nowhere does not exist"]),
        (["."], ["no run folder", "config.toml"]),
        (["over"], ["over", "left no ring.safetensors"]),
        (["text"], ["text", "no safetensors file"]),
        (["ring", "--images", "grid.gif"], ["--images grid.gif", ".png"]),
        (["ring", "--images", "grid.png"], ["holds no images"]),
        (["ring", "--count", "0"], ["--count"]),
        ([], ["RUN|SNAPSHOT"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_looked_at_is_one_line_and_exit_code_2(new_ring, tmp_path, monkeypatch, words, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "config.toml").touch()
    (tmp_path / "text").write_text("once upon a time " * 20)
    ring = new_ring()
    open_plain(ring, 0)
    claims = ring.claim([0], 1)
    ring.commit(claims, pictures(claims))
    save_snapshot(ring, tmp_path / "ring", payload=False)
    done = inspect(*words)
    assert done.returncode == 2, done
    [line] = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_a_heartbeat_that_comes_while_it_is_read_has_no_negative_age(new_ring):
    ring = new_ring()
    ring._control.columns.process_heartbeat[:] = time.monotonic_ns() + 10**8
    [process] = ring.stats().processes
    assert process["heartbeat_age_s"] == 0
