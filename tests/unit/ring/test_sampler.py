"""Samplers by name and of the user's own, and batches that they may not choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_parts import write_parts
from small_rings import open_pair, open_plain, render, tasks

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import DrawRequest, RingSpec

WRONG = """
import numpy as np

def of(rows):
    return lambda groups, seed, step, plain, pair, first: rows(groups)

nothing = of(lambda groups: None)
short = of(lambda groups: (np.array([0]), np.array([], np.int64)))
absent = of(lambda groups: (np.array([0, 15]), np.array([], np.int64)))
beyond = of(lambda groups: (np.array([0, 99]), np.array([], np.int64)))
twice = of(lambda groups: (np.array([1, 1]), np.array([], np.int64)))
pair = of(lambda groups: (np.array([], np.int64), np.array([0])))
"""


def drawn(ring, step: int, plain: int = 2, pair: int = 0) -> list[int]:
    draw = ring.draw(DrawRequest(step, plain, pair), timeout_s=1)
    ring.release(draw)
    return tasks(draw)


def test_rounds_are_the_default_and_pass_over_what_was_drawn(new_ring):
    ring = new_ring()
    assert RingSpec.from_json(ring.spec.to_json()).sampler == "rounds"
    for task in range(4):
        open_plain(ring, task)
    render(ring)
    assert sorted(drawn(ring, 0) + drawn(ring, 1)) == [0, 1, 2, 3]


def test_uniform_draws_do_not_know_what_was_drawn_before(new_ring):
    batches = []
    for before in (0, 5):
        ring = new_ring(sampler="uniform")
        for task in range(8):
            open_plain(ring, task)
        render(ring)
        for step in range(before):
            drawn(ring, step)
        batches.append(drawn(ring, 9))
    assert batches[0] == batches[1]


def test_a_sampler_of_ones_own_chooses_the_batch(new_ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_parts(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    ring = new_ring(sampler="my_parts:newest")
    for task in (3, 9, 1):
        open_plain(ring, task)
    open_pair(ring, 20)
    render(ring)
    assert drawn(ring, 0, 2, 0) == [20, 9]
    assert drawn(ring, 1, 2, 1) == [9, 3, 20]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "it returned NoneType, not two arrays of rows or a Shortage"),
        ("short", r"it chose \[1\] and \[0\] rows of 2 PLAIN and 0 PAIR"),
        ("absent", "it chose a row that may not be drawn"),
        ("beyond", "it chose a row that may not be drawn"),
        ("twice", "it chose one text twice"),
        ("pair", "it chose a group without a hard negative as PAIR"),
    ],
)
def test_a_batch_that_could_not_be_trained_on_is_refused(
    new_ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
):
    module = f"wrong_{name}"  # imported once in a process
    (tmp_path / f"{module}.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    ring = new_ring(sampler=f"{module}:{name}")
    for task in range(3):
        open_plain(ring, task)
    render(ring)
    counts = (0, 1) if name == "pair" else (2, 0)
    before = ring.stats()
    with pytest.raises(PolygenError, match=f"ring.sampler = '{module}:{name}', step 0: {told}"):
        ring.draw(DrawRequest(0, *counts), timeout_s=1)
    assert ring.stats().draws == before.draws and ring.stats().groups == before.groups  # undone


def test_an_unknown_sampler_is_refused(new_ring):
    ring = new_ring(sampler="prioritised")
    open_plain(ring, 0)
    render(ring)
    with pytest.raises(UserError, match="no ring sampler 'prioritised': choose one of rounds, uniform"):
        ring.draw(DrawRequest(0, 1, 0), timeout_s=1)
