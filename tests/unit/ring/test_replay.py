"""A ring in replay mode draws the tasks that the caller names, and what another run's draw log needs again stays."""

from __future__ import annotations

import pytest
from small_rings import open_pair, open_plain, render, tasks

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config
from polygen_stream.launch.preflight import check_disk
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring import (
    DrawRecord,
    DrawRequest,
    GeneratorsDown,
    Kind,
    Member,
    PinResult,
    RingExhausted,
    RingTimeout,
)
from polygen_stream.ring.draw_log import DrawLog
from polygen_stream.train.replay_schedule import ReplaySchedule


def plain_and_pair(plain: list[int], pair: list[int] | None = None) -> DrawRecord:
    """A record of these tasks."""
    pair = pair or []
    kinds = (Kind.PLAIN,) * len(plain) + (Kind.PAIR,) * len(pair)
    return DrawRecord(0, (*plain, *pair), kinds, (1,) * len(kinds))


def test_a_draw_takes_the_named_tasks_in_their_order(new_ring):
    ring = new_ring(mode="replay")
    for task in (3, 5, 4):
        open_plain(ring, task)
    open_pair(ring, 9)
    render(ring)
    draw = ring.draw(DrawRequest(0, 3, 1, exactly=plain_and_pair([5, 9, 3], [9])), 0.0)
    assert tasks(draw) == [5, 9, 3, 9]
    assert [group.kind for group in draw.groups] == [Kind.PLAIN] * 3 + [Kind.PAIR]
    assert [group.negative for group in draw.groups] == [None, None, None, "negative 9"]
    ring.release(draw)
    assert ring.check() == []


def test_a_draw_waits_for_its_tasks_and_says_when_they_cannot_come(new_ring):
    ring = new_ring(mode="replay")
    open_plain(ring, 1)
    with pytest.raises(RingTimeout, match="generator 'one' lags"):
        ring.draw(DrawRequest(0, 1, 0, exactly=plain_and_pair([1])), 0.01)
    render(ring)
    with pytest.raises(RingTimeout):
        ring.draw(DrawRequest(0, 2, 0, exactly=plain_and_pair([1, 2])), 0.01)
    ring.finish_opening()
    with pytest.raises(RingExhausted, match="step 0 replays task 2, which is not in the ring"):
        ring.draw(DrawRequest(0, 2, 0, exactly=plain_and_pair([1, 2])), 0.01)


def test_what_will_be_drawn_again_is_pinned_however_much_it_is(new_ring, tmp_path):
    ring = new_ring(mode="replay", max_open=16)
    for task in range(16):  # all the room there is
        open_plain(ring, task)
    render(ring)
    log = DrawLog(tmp_path / "log")
    log.write(DrawRecord(0, tuple(range(16)), (Kind.PLAIN,) * 16, (1,) * 16))
    log.write(DrawRecord(1, tuple(range(15)), (Kind.PLAIN,) * 15, (1,) * 15))
    log.close()
    script = ReplaySchedule(tmp_path / "log")
    draw = ring.draw(DrawRequest(0, 16, 0, exactly=script.draw(0, [(16, 0)])), 0.0)
    script.update_pins(ring, draw.summary)
    ring.release(draw)
    assert ring.stats().pinned == 15
    open_plain(ring, 16)  # in the place of task 15, which nobody draws again
    with pytest.raises(RingTimeout):
        open_plain(ring, 17)
    draw = ring.draw(DrawRequest(1, 15, 0, exactly=script.draw(1, [(15, 0)])), 0.0)
    script.update_pins(ring, draw.summary)
    ring.release(draw)
    assert ring.stats().pinned == 0
    open_plain(ring, 17)


def test_a_script_of_another_config_or_a_shorter_run_is_refused(tmp_path):
    log = DrawLog(tmp_path / "log")
    log.write(DrawRecord(0, (1, 2), (Kind.PLAIN, Kind.PAIR), (1, 1)))
    log.close()
    with pytest.raises(UserError, match="step 0 drew 1 plain \\+ 1 pair captions, but this config's curriculum asks"):
        ReplaySchedule(tmp_path / "log").draw(0, [(2, 0)])
    with pytest.raises(UserError, match="has no step 1"):
        ReplaySchedule(tmp_path / "log").draw(1, [(1, 1)])


def test_a_ring_knows_how_far_tasks_have_come_in_every_mode(new_ring):
    ring = new_ring()
    assert ring.stats().known == 0
    open_plain(ring, 4)
    assert ring.stats().known == 5
    ring.skip_task(7, 0.0)
    assert (ring.stats().known, ring.stats().free_groups) == (8, 15)
    ring.generator_down(1)
    assert ring.stats().generators_down == ("two",)
    with pytest.raises(GeneratorsDown, match="every generator of its positives is down: two"):
        ring.open_group(8, Kind.PLAIN, "a cat", None, [Member(1, 0, 1)], 0.0)
    assert ring.stats().known == 8


def test_pins_keep_their_share_in_other_modes(new_ring):
    ring = new_ring()
    for task in range(16):
        open_plain(ring, task)
    render(ring)
    draw = ring.draw(DrawRequest(0, 16, 0), 0.0)
    answers = [ring.pin(group.row, group.generation) for group in draw.groups]
    assert answers.count(PinResult.PINNED) == 4 and answers.count(PinResult.FULL) == 12


def test_a_disk_that_cannot_hold_the_checkpoints_is_found_before_the_start(tmp_path):
    config = load_config(None)
    check_disk(config, build_process_plan(config), tmp_path / "not" / "there" / "yet")
    # more slots than any disk of today has room for, and no memory: a plan is only arithmetic
    config = load_config(None, {"ring.slots": "4000000000", "ring.image_size": "256"})
    with pytest.raises(UserError, match=r"MiB free, but 6 checkpoints .* set train.checkpoint_images = false"):
        check_disk(config, build_process_plan(config), tmp_path / "run")
