"""Reading metrics while they are written."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.launch.watch.metrics_tail import MetricsTail, TrainerWaits


def test_half_written_line_waits_for_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    tail.read()
    assert tail.last == {} and tail.first_seen is None
    path.write_text('{"step": 0, "ti')
    tail.read()
    assert tail.last == {} and tail.first_seen is None
    with path.open("a") as file:
        file.write('me": 0.5}\n{"step": 1, "time": 1')
    tail.read()
    assert tail.last == {"step": 0, "time": 0.5} and tail.first_seen is not None
    with path.open("a") as file:
        file.write(".0}\n")
    tail.read()
    assert [line["step"] for line in tail.recent] == [0, 1]
    assert tail.steps_per_second == 2.0


@given(st.lists(st.integers(1, 30), max_size=40))
def test_lines_are_the_same_however_the_file_grows(tmp_path_factory, pieces):
    text = "".join(json.dumps({"step": step, "time": step / 4}) + "\n" for step in range(12)).encode()
    path = tmp_path_factory.mktemp("tail") / "metrics.jsonl"
    tail = MetricsTail(path)
    written = 0
    with path.open("ab", buffering=0) as file:
        for piece in [*pieces, len(text)]:
            file.write(text[written : written + piece])
            written += piece
            tail.read()
    assert [line["step"] for line in tail.recent] == list(range(12))
    assert tail.steps_per_second == 4.0


def test_damaged_lines_are_skipped(tmp_path):
    path = tmp_path / "eval.jsonl"
    path.write_text('{"step": 0}\n{"step": 2{"step": 4}\n[1]\n\n{"step": 6}\n{"step": 8')
    assert list(read_jsonl(path)) == [{"step": 0}, {"step": 6}]
    assert list(read_jsonl(tmp_path / "absent.jsonl")) == []


def test_waits_are_those_after_the_first_batch_which_counts_apart(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path, window=4)
    assert tail.waits == TrainerWaits()
    path.write_text('{"step": 0, "time": 9, "wait_s": 9.0, "step_s": 1.0}\n')
    tail.read()
    assert tail.waits == TrainerWaits(first_batch_s=9.0)
    with path.open("a") as file:
        file.write('{"step": 1, "time": 10, "wait_s": 3.0, "step_s": 1.0}\n')
        file.write('{"step": 2, "time": 11, "wait_s": 3.0, "step_s": 1.0}\n')
    tail.read()
    assert tail.waits == TrainerWaits(9.0, after=0.75, recent=0.75, recent_steps=2)
    with path.open("a") as file:
        for step in range(3, 7):
            file.write(f'{{"step": {step}, "time": {9 + step}, "wait_s": 0.0, "step_s": 2.0}}\n')
    tail.read()
    assert tail.waits == TrainerWaits(9.0, after=0.375, recent=0.0, recent_steps=4)


def test_after_a_cut_only_what_comes_then_is_news(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "time": {step}}}\n' for step in range(8)))
    tail = MetricsTail(path)
    tail.read()
    path.write_text("".join(f'{{"step": {step}, "time": {step}}}\n' for step in range(5)))
    tail.start_again()
    assert (tail.last["step"], tail.first_seen) == (4, None)
    tail.read()
    assert tail.first_seen is None
    with path.open("a") as file:
        file.write('{"step": 5, "time": 5.0}\n')
    tail.read()
    assert tail.last["step"] == 5 and tail.first_seen is not None
