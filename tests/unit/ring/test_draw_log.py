from __future__ import annotations

import pytest
from small_rings import open_pair, open_plain, render

from polygen_stream.base.errors import UserError
from polygen_stream.ring import DrawRequest
from polygen_stream.ring.draw_log import DrawLog, read_draw_log


def test_a_log_reads_back_as_it_was_drawn(new_ring, tmp_path):
    ring = new_ring(slots=64)
    for task in range(8):
        (open_pair if task % 2 else open_plain)(ring, task)
    render(ring)
    log, records = DrawLog(tmp_path / "log"), []
    for step in range(3):
        draw = ring.draw(DrawRequest(step, 3, 2), 0.0)
        ring.release(draw)
        log.write(draw.record)
        records.append(draw.record)
        assert list(read_draw_log(tmp_path / "log")) == records  # at once
    log.close()
    assert records[0].generations == tuple(1 for _ in range(5))
    assert (tmp_path / "log").read_text().splitlines()[0].startswith('{"step": 0, "plain": [')


@pytest.fixture
def log_of_five(new_ring, tmp_path):
    ring = new_ring()
    open_plain(ring, 0)
    render(ring)
    log, records = DrawLog(tmp_path / "log"), []
    for step in range(5):
        draw = ring.draw(DrawRequest(step, 1, 0), 0.0)
        ring.release(draw)
        log.write(draw.record)
        records.append(draw.record)
    log.close()
    return tmp_path / "log", records


def test_a_resumed_run_writes_its_steps_anew(log_of_five):
    file, records = log_of_five
    log = DrawLog(file, first_step=3)
    assert list(read_draw_log(file)) == records[:3]
    log.write(records[3])
    log.close()
    assert list(read_draw_log(file)) == records[:4]


def test_what_a_killed_writer_left_half_written_is_left_out_and_removed(log_of_five):
    file, records = log_of_five
    torn = file.read_bytes()[:-4]
    file.write_bytes(torn)
    assert list(read_draw_log(file)) == records[:4]
    log = DrawLog(file, first_step=5)
    log.write(records[4])
    log.close()
    assert list(read_draw_log(file)) == records


def test_another_file_is_refused_not_overwritten(tmp_path):
    file = tmp_path / "log"
    for text in ('{"step": 0}\n', "not json\n", '{"step": 0, "plain": [1], "pair": [], "generations": []}\n'):
        file.write_text(text)
        with pytest.raises(UserError, match="line 1 is no record of a draw"):
            DrawLog(file)
        assert file.read_text() == text


@pytest.mark.parametrize("damage", [b"\x00\xff\x80", b'{"step": 1, "pl'], ids=["garbage", "cut"])
def test_a_damaged_line_in_the_middle_is_refused(log_of_five, damage):
    file, _ = log_of_five
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + damage + b"\n" + b"".join(rest))
    with pytest.raises(UserError, match=rf"^{file} line 2 is no record of a draw \(.*damaged"):
        list(read_draw_log(file))


def test_a_missing_log_is_empty(tmp_path):
    assert list(read_draw_log(tmp_path / "none")) == []
