from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import JsonLines, cut_jsonl, read_jsonl, read_jsonl_lines
from polygen_stream.train.tensorboard import TensorBoard


def test_a_record_is_readable_before_the_writer_closes(tmp_path):
    writer = JsonLines(tmp_path / "metrics.jsonl")
    writer.write({"step": 0, "loss": 1.5, "loss_parts": {"i2t": 1.0}})
    assert list(read_jsonl(tmp_path / "metrics.jsonl")) == [{"step": 0, "loss": 1.5, "loss_parts": {"i2t": 1.0}}]
    writer.close()


def test_writing_again_appends(tmp_path):
    for step in range(2):
        writer = JsonLines(tmp_path / "m.jsonl")
        writer.write({"step": step})
        writer.close()
    assert [r["step"] for r in read_jsonl(tmp_path / "m.jsonl")] == [0, 1]


def test_a_line_still_being_written_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 0}\n{"step": 1, "lo')
    assert list(read_jsonl(tmp_path / "m.jsonl")) == [{"step": 0}]


def test_missing_file_has_no_records(tmp_path):
    assert list(read_jsonl(tmp_path / "none.jsonl")) == []


def test_nan_is_refused_where_it_is_written(tmp_path):
    with pytest.raises(ValueError):
        JsonLines(tmp_path / "m.jsonl").write({"loss": float("nan")})


def test_tensorboard_gets_every_number_under_its_nested_name(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path)
    sink.write({"step": 3, "loss": 1.5, "loss_parts": {"i2t": 0.25}, "images_committed": {"micro/sd15": 7}})
    sink.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "loss_parts/i2t", "images_committed/micro/sd15"}
    (point,) = events.Scalars("loss_parts/i2t")
    assert (point.step, point.value) == (3, 0.25)


def test_cutting_keeps_the_steps_before_and_drops_what_was_glued_together(tmp_path):
    file = tmp_path / "m.jsonl"
    cut_jsonl(file, 3)
    assert not file.exists()
    file.write_text('{"step": 0}\n{"step": 1}\n{"st{"step": 2}\n[]\n{"step": 2}\n{"step": 3}\n{"step": 2')
    cut_jsonl(file, 3)
    assert [record["step"] for record in read_jsonl(file)] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_cutting_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^cannot read .*: Is a directory$"):
        cut_jsonl(tmp_path, 3)


def damaged(tmp_path):
    file = tmp_path / "m.jsonl"
    file.write_bytes(b'{"step": 0}\n' + bytes(range(1, 256)) + b'\n[3]\n{"time": 1}\n{"step": 4}\n{"step": 5')
    return file


def test_damaged_lines_are_skipped_and_told_of_once(tmp_path, capsys):
    file = damaged(tmp_path)
    for _ in range(2):
        assert [record["step"] for record in read_jsonl(file, required=("step",))] == [0, 4]
    # The garbage holds a line feed of its own.
    assert capsys.readouterr().err == f"warning: {file} is damaged: skipped 4 lines, the first is line 2\n"


def test_where_every_line_is_needed_a_damaged_one_is_refused(tmp_path):
    file = damaged(tmp_path)
    with pytest.raises(UserError, match=r"m\.jsonl line 2 is damaged"):
        list(read_jsonl(file, strict=True))


def test_reading_can_go_on_where_it_ended(tmp_path):
    file = damaged(tmp_path)
    whole = list(read_jsonl_lines(file))
    assert [line.number for line in whole] == [1, 2, 3, 4, 5, 6]
    for line in whole:
        assert list(read_jsonl_lines(file, line.end, line.number)) == whole[line.number :]
