"""Calls of any number of rows on engines that are made for a few numbers only."""

from __future__ import annotations

import pytest
import torch

from polygen_stream.engine.batching import run_in_sizes


class Engine:
    """Doubles its input, in one buffer that the next call overwrites, and only for the sizes it was made for."""

    def __init__(self, sizes) -> None:
        self.sizes, self.seen = sizes, []
        self.buffer = torch.empty(64, 2)

    def __call__(self, inputs):
        rows = len(inputs["x"])
        assert rows in self.sizes
        self.seen.append(rows)
        self.buffer[:rows] = 2 * inputs["x"]
        return {"y": self.buffer[:rows]}


@pytest.mark.parametrize(
    ("rows", "calls"), [(1, [4]), (4, [4]), (5, [16]), (16, [16]), (17, [16, 4]), (40, [16, 16, 16]), (33, [16, 16, 4])]
)
def test_rows_are_split_filled_up_and_cut_again(rows: int, calls: list[int]):
    engine, x = Engine([4, 16]), torch.randn(rows, 2)
    assert torch.equal(run_in_sizes(engine, {"x": x}, engine.sizes)["y"], 2 * x)
    assert engine.seen == calls


def test_a_range_of_sizes_is_filled_up_below_and_split_above():
    engine = Engine(range(2, 9))
    for rows, calls in ((1, [2]), (3, [3]), (8, [8]), (11, [8, 3]), (17, [8, 8, 2])):
        engine.seen.clear()
        x = torch.randn(rows, 2)
        assert torch.equal(run_in_sizes(engine, {"x": x}, engine.sizes)["y"], 2 * x)
        assert engine.seen == calls


def test_filling_rows_repeat_a_real_one():
    seen = []

    def engine(inputs):
        seen.append(inputs["x"].clone())
        return {"y": inputs["x"]}

    run_in_sizes(engine, {"x": torch.tensor([[1.0], [7.0]])}, [4])
    assert seen[0].tolist() == [[1.0], [7.0], [7.0], [7.0]]
