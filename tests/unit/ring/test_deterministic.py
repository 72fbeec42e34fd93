"""Deterministic mode: the batch of a step is a function of seed, step and tasks, whatever the order and the speed."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from killed_children import fork_child, was_killed
from small_rings import open_pair, open_plain, pictures, render, small_spec, tasks

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring import DrawRequest, Kind, PinResult, Ring, RingExhausted, RingTimeout
from polygen_stream.ring.window import TaskWindow

# due(step) = 4 + 2 x step tasks, the newest 6 of them are the window, and 9 groups of 4 images fit
RULES = {
    "mode": "deterministic",
    "min_fill": 4,
    "window": 6,
    "inserts_per_step": 2.0,
    "slots": 36,
    "groups": 12,
    "max_retries": 1,
}
STEPS, TASKS = 9, 20  # the last steps ask for more tasks than there are


def open_task(ring: Ring, task: int) -> None:
    """What a task is: every third a pair, every seventh rejected."""
    if task % 7 == 6:
        ring.skip_task(task, 0.0)
    elif task % 3 == 0:
        open_pair(ring, task)
    else:
        open_plain(ring, task)


def produce(ring: Ring, to_open: list[int], chance: random.Random) -> None:
    """Opens and renders a little of what is possible now, in a random order; task 8's pictures are never accepted."""
    for task in to_open[: chance.randint(1, 4)]:
        try:
            open_task(ring, task)
            to_open.remove(task)
        except RingTimeout:
            continue
    if not to_open:
        ring.finish_opening()
    for generator in chance.sample([0, 1], chance.randint(0, 2)):
        claims = ring.claim([generator], chance.randint(1, 5))
        chance.shuffle(claims)
        bad = [claim for claim in claims if claim.task_id == 8]
        good = [claim for claim in claims if claim.task_id != 8]
        if bad:
            ring.fail(bad, "black")
        if good:
            ring.commit(good, pictures(good))


def batches(ring: Ring, seed: int, *, first_step: int = 0, spread: int = 1) -> list[list[tuple[int, Kind, int]]]:
    """Task ids, kinds and numbers of images of every batch. `spread`: how far tasks are opened out of order."""
    chance, to_open, seen = random.Random(seed), list(range(TASKS)), []
    to_open.sort(key=lambda task: task + chance.uniform(0, spread))
    for step in range(first_step, STEPS):
        while True:
            try:
                draw = ring.draw(DrawRequest(step, 2, 1), 0.0)
                break
            except RingTimeout:
                produce(ring, to_open, chance)
        seen.append([(g.task_id, g.kind, len(g.positive_slots) + len(g.negative_slots)) for g in draw.groups])
        ring.release(draw)
        if chance.random() < 0.5:  # producers work ahead of the trainer, or do not
            produce(ring, to_open, chance)
        assert ring.check() == []
    return seen


def test_batches_do_not_depend_on_order_or_speed(new_ring):
    expected = batches(new_ring(**RULES), seed=0)
    for seed in range(1, 8):
        assert batches(new_ring(**RULES), seed, spread=seed % 4 + 1) == expected
    assert batches(new_ring(**RULES, seed=8), seed=0) != expected  # the run's seed


def test_batches_come_from_the_window(new_ring):
    window = TaskWindow(min_fill=4, window=6, inserts_per_step=2.0, capacity=9)
    for step, batch in enumerate(batches(new_ring(**RULES), seed=3)):
        inside = window.tasks(step, TASKS)
        assert {task for task, _, _ in batch} <= set(inside)
        assert not {task for task, _, _ in batch} & {6, 8, 13}  # rejected, or without a picture


def test_a_resumed_run_gets_the_batches_of_an_uninterrupted_one(new_ring):
    expected = batches(new_ring(**RULES), seed=0)
    for first_step in (1, 4, 8):
        assert batches(new_ring(**RULES), seed=5, first_step=first_step) == expected[first_step:]


def test_killed_renderers_change_nothing(new_ring):
    """Deaths cost a member no retries: it is rendered in the end, however many renderers it takes with it."""

    def die(mine: Ring) -> None:
        assert mine.claim([0, 1], 8)
        os.kill(os.getpid(), signal.SIGKILL)

    ring = new_ring(**RULES | {"max_retries": 0})
    for task in range(4):
        open_plain(ring, task)
    for _ in range(3):
        assert was_killed(fork_child(ring, die))
        ring.reap()
    assert render(ring) == 8
    assert ring.stats().degraded == 0
    assert len(ring.draw(DrawRequest(0, 3, 0), 0.0).groups) == 3


def test_a_draw_waits_for_stragglers_and_names_them(new_ring):
    ring = new_ring(**RULES)
    for task in (0, 1, 3):
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingTimeout, match="task 2 was neither opened nor skipped; waiting for a captioner"):
        ring.draw(DrawRequest(0, 2, 0), 0.0)  # although three groups are complete
    open_plain(ring, 2)
    render(ring, (0,))
    with pytest.raises(RingTimeout, match="task 2 is being rendered; generator 'two' lags with 1 members"):
        ring.draw(DrawRequest(0, 2, 0), 0.0)
    render(ring)
    assert len(ring.draw(DrawRequest(0, 2, 0), 0.0).groups) == 2


def test_a_window_that_cannot_fill_the_batch_is_extended_task_by_task(new_ring):
    ring = new_ring(**RULES)
    for task in range(4):
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingTimeout, match="task 4 was neither opened nor skipped"):
        ring.draw(DrawRequest(0, 1, 1), 0.0)
    open_plain(ring, 4)
    open_pair(ring, 6)
    render(ring)
    with pytest.raises(RingTimeout, match="task 5 was neither"):  # task 6 is there, but 5 might be a pair too
        ring.draw(DrawRequest(0, 1, 1), 0.0)
    open_pair(ring, 5)
    render(ring)
    assert tasks(ring.draw(DrawRequest(0, 1, 1), 0.0))[1] == 5


def test_a_batch_that_no_extension_can_fill_fails_at_once(new_ring):
    ring = new_ring(**RULES)
    for task in range(9):  # all that fits beside step 0's window
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingExhausted, match=r"tasks 0 to 8, .* have 9 groups, 0 of them PAIR; raise ring.window"):
        ring.draw(DrawRequest(0, 1, 1), 60.0)
    assert ring.stats().draws == 0


def test_the_last_window_stands_still_when_production_has_ended(new_ring):
    ring = new_ring(**RULES)
    for task in range(5):
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingTimeout):  # task 5 may still come
        ring.draw(DrawRequest(1, 5, 0), 0.0)
    ring.finish_opening()
    for step in (1, 50):
        draw = ring.draw(DrawRequest(step, 5, 0), 0.0)
        assert sorted(tasks(draw)) == [0, 1, 2, 3, 4]
        ring.release(draw)
    with pytest.raises(RingExhausted):
        ring.draw(DrawRequest(51, 6, 0), 60.0)


def test_production_runs_ahead_only_as_far_as_every_task_of_the_window_will_fit(new_ring):
    ring = new_ring(**RULES)
    for task in reversed(range(9)):
        open_pair(ring, task)
    with pytest.raises(RingTimeout, match="step 0 is drawn first, it needs the tasks below 4"):
        open_plain(ring, 9)
    render(ring)
    for step in range(3):
        ring.release(ring.draw(DrawRequest(step, 2, 0), 0.0))
    open_pair(ring, 9)  # step 2 has left tasks 0 and 1 behind
    open_pair(ring, 10)
    with pytest.raises(RingTimeout):
        open_plain(ring, 11)
    assert ring.stats().evicted == 2
    with pytest.raises(RingExhausted, match="made room for later steps; resume with a new ring"):
        ring.draw(DrawRequest(0, 2, 0), 0.0)


def test_what_would_make_batches_depend_on_time_is_refused(new_ring):
    ring = new_ring(**RULES)
    open_plain(ring, 3)
    with pytest.raises(PolygenError, match="takes each task id once"):
        open_plain(ring, 3)
    with pytest.raises(PolygenError, match="generator 'two' cannot be given up in deterministic mode"):
        ring.generator_down(1)
    with pytest.raises(UserError, match="limits of a deterministic ring"):
        ring.set_limits(max_age=3)
    render(ring)
    [group] = ring.groups_snapshot(1)
    assert ring.pin(group.row, group.generation) is PinResult.FULL


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"slots": 23}, r"window = 6 tasks x up to 4 images = 24 images .* 23 slots.*lower ring.window to 5"),
        ({"groups": 5}, r"at most 5 groups.*lower ring.window to 5"),
        ({"window": 3}, "ring.window is 3 tasks, less than ring.min_fill = 4"),
        ({"max_age": 9}, "max_age is 9, but in deterministic mode"),
        ({"mode": "certain"}, 'it must be "throughput", "deterministic" or "replay"'),
    ],
)
def test_a_ring_that_must_deadlock_is_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        Ring.create(small_spec(**RULES | changes))


def test_skipping_means_nothing_in_throughput_mode(new_ring):
    ring = new_ring()
    ring.skip_task(0, 0.0)
    assert (ring.stats().skipped, ring.stats().free_groups) == (0, 16)


def test_several_real_renderers_give_the_same_batches(new_ring):
    """Processes that claim, dawdle and are killed: as in the one-process run."""

    def paint(mine: Ring) -> None:
        chance = random.Random(os.getpid())
        while True:
            claims = mine.claim([0, 1], chance.randint(1, 3))
            time.sleep(chance.uniform(0, 0.002))
            if claims:
                mine.commit(claims, pictures(claims))

    def run(renderers: int) -> list[list[int]]:
        ring, seen = new_ring(**RULES), []
        children = [fork_child(ring, paint) for _ in range(renderers)]
        opened = 0
        try:
            for step in range(6):
                while True:
                    try:
                        draw = ring.draw(DrawRequest(step, 3, 0), 0.002)
                        break
                    except RingTimeout:
                        with suppress(RingTimeout):  # too far ahead of the draw
                            open_plain(ring, opened)
                            opened += 1
                seen.append(tasks(draw))
                ring.release(draw)
                if step == 2 and renderers > 1:
                    victim = children.pop()
                    os.kill(victim, signal.SIGKILL)
                    assert was_killed(victim)
                    ring.reap()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                was_killed(child)
        return seen

    assert run(1) == run(4)
