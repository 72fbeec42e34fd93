"""kill -9 at every journalled write (slow: at every line) of every transition: what the next locker finds is the state
before, or the state after."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType

import numpy as np
import pytest
from killed_children import JOURNALLED_WRITES, every_line, fork_child, stop_at, was_killed
from small_rings import open_pair, open_plain, pictures, render, small_spec

from polygen_stream.ring import DrawRequest, Measurement, PinResult, Ring, RingTimeout
from polygen_stream.ring.layout import Total, columns_of


@dataclass(frozen=True)
class Scenario:
    """An operation a child dies in. `one`: a single transition, so nothing may lie between before and after."""

    prepare: Callable[[Ring], object]  # by the parent
    act: Callable[[Ring, object], object]  # by the child, on what `take` gave it
    take: Callable[[Ring], object] = lambda ring: None  # by the child, before it is in danger
    changes: dict[str, int] = field(default_factory=dict)  # to the small spec
    one: bool = True
    register: bool = True


def fill(ring: Ring) -> None:
    open_plain(ring, 0)
    open_pair(ring, 1)
    render(ring)


def half_fill(ring: Ring) -> None:
    open_plain(ring, 0)
    open_pair(ring, 1)
    render(ring, (0,))


def used_up(ring: Ring) -> None:
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))


def wanted(ring: Ring) -> None:
    open_plain(ring, 0)
    open_pair(ring, 1)


def dead_owner(ring: Ring) -> None:
    """A process that died with claims and a lease, not reaped yet."""
    fill(ring)
    open_pair(ring, 2)
    open_plain(ring, 3)

    def pin_one(mine: Ring) -> None:
        mine.draw(DrawRequest(0, 1, 1), 0.0)
        mine.claim([1], 3)

    assert not was_killed(fork_child(ring, pin_one))


def dead_holder(ring: Ring) -> None:
    """A process that was killed in the middle of a draw; whoever locks next has to recover."""
    fill(ring)

    def draw_and_die(mine: Ring) -> None:
        stop_at(14, JOURNALLED_WRITES, signal.SIGKILL)
        mine.draw(DrawRequest(0, 1, 1), 0.0)

    assert was_killed(fork_child(ring, draw_and_die))


def one_to_pin(ring: Ring) -> None:
    fill(ring)
    [group] = ring.groups_snapshot(1)
    assert ring.pin(group.row, group.generation) is PinResult.PINNED


def over_age(ring: Ring) -> None:
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    ring.set_step(3)


def broadcast(ring: Ring) -> None:
    fill(ring)
    ring.broadcast(DrawRequest(0, 1, 1), 2, 0.0)


def dead_leader(ring: Ring) -> None:
    """A process that died with a batch on the board, of which one slice was taken."""
    fill(ring)
    assert not was_killed(fork_child(ring, lambda mine: mine.broadcast(DrawRequest(0, 1, 1), 2, 0.0)))
    ring.release(ring.receive(0, 1, 2, 0.0))


def window_full(ring: Ring) -> None:
    """Six tasks in a ring for six, of which the step tried last asks for the newest four and one more."""
    for task in range(6):
        (open_pair if task % 2 else open_plain)(ring, task)
    render(ring)
    with pytest.raises(RingTimeout):
        ring.draw(DrawRequest(5, 1, 0), 0.0)


def nothing(ring: Ring) -> None:
    return None


def claim_two(ring: Ring):
    return ring.claim([1], 8)


# due(step) = 2 + step tasks, the newest 4 of them are the window, and 6 groups of 4 images fit
DETERMINISTIC = {
    "mode": "deterministic",
    "min_fill": 2,
    "window": 4,
    "inserts_per_step": 1.0,
    "slots": 24,
    "groups": 6,
    "max_retries": 0,
}


def first_pinned(ring: Ring) -> tuple[int, int]:
    return ring.pinned()[0]


def first_group(ring: Ring) -> tuple[int, int]:
    [group] = ring.groups_snapshot(1)
    return group.row, group.generation


def measured(ring: Ring, _: object) -> None:
    rows = np.array([(0, 1, 0), (2, 1, 1)])
    ring.add_feedback(Measurement(3, rows, np.array([1.0, 2.0]), np.array([True, False]), np.array([0.5, np.nan])))


SCENARIOS = {
    "feedback": Scenario(nothing, measured),
    "open": Scenario(nothing, lambda ring, _: open_pair(ring, 0)),
    "open_evicts": Scenario(used_up, lambda ring, _: open_pair(ring, 2), changes={"slots": 4}, one=False),
    "claim": Scenario(wanted, lambda ring, _: ring.claim([0, 1], 8)),
    "commit": Scenario(half_fill, lambda ring, claims: ring.commit(claims, pictures(claims)), claim_two),
    "fail_retries": Scenario(half_fill, lambda ring, claims: ring.fail(claims, "black"), claim_two),
    "fail_demotes": Scenario(half_fill, lambda ring, claims: ring.fail(claims, "black"), claim_two, {"max_retries": 0}),
    "fail_drops": Scenario(
        lambda ring: open_pair(ring, 0),
        lambda ring, claims: ring.fail(claims, "black"),
        lambda ring: ring.claim([0], 8) + ring.claim([1], 8),
        {"max_retries": 0},
    ),
    "draw": Scenario(fill, lambda ring, _: ring.draw(DrawRequest(0, 1, 1), 0.0)),
    "release": Scenario(fill, lambda ring, draw: ring.release(draw), lambda ring: ring.draw(DrawRequest(0, 1, 1), 0.0)),
    "reap": Scenario(dead_owner, lambda ring, _: ring.reap(), one=False),
    "generator_down": Scenario(wanted, lambda ring, _: ring.generator_down(1), one=False),
    "register": Scenario(nothing, lambda ring, _: ring.register("renderer", "again")),
    "set_step": Scenario(nothing, lambda ring, _: ring.set_step(9)),
    "open_evicts_over_age": Scenario(
        over_age, lambda ring, _: open_pair(ring, 2), changes={"slots": 4, "max_age": 2}, one=False
    ),
    "pin": Scenario(fill, lambda ring, group: ring.pin(*group), first_group),
    "unpin": Scenario(one_to_pin, lambda ring, group: ring.unpin(*group), first_pinned),
    "set_limits": Scenario(
        fill, lambda ring, _: ring.set_limits(max_age=100, samples_per_insert=1.0, error_buffer=9.0)
    ),
    "broadcast": Scenario(fill, lambda ring, _: ring.broadcast(DrawRequest(0, 1, 1), 2, 0.0)),
    "receive": Scenario(broadcast, lambda ring, _: ring.receive(0, 1, 2, 0.0)),
    "reap_leader": Scenario(dead_leader, lambda ring, _: ring.reap(), one=False),
    "window_draw": Scenario(
        lambda ring: [open_plain(ring, 0), open_pair(ring, 1), render(ring)],
        lambda ring, _: ring.draw(DrawRequest(0, 1, 1), 0.0),
        changes=DETERMINISTIC,
    ),
    "window_open_evicts": Scenario(window_full, lambda ring, _: open_pair(ring, 6), changes=DETERMINISTIC, one=False),
    "window_skip": Scenario(window_full, lambda ring, _: ring.skip_task(6, 0.0), changes=DETERMINISTIC, one=False),
    "window_drop": Scenario(
        lambda ring: open_plain(ring, 0),
        lambda ring, claims: ring.fail(claims, "black"),
        lambda ring: ring.claim([0], 8) + ring.claim([1], 8),
        DETERMINISTIC,
    ),
    # the child must meet the dead holder itself, so it does not register before
    "recover": Scenario(dead_holder, lambda ring, _: ring.stats(), register=False),
}


def state(ring: Ring) -> dict[str, np.ndarray]:
    """All journalled columns except what differs from process to process."""
    columns = ring._control.columns
    copies = {c.name: getattr(columns, c.name).copy() for c in columns_of(ring.spec) if c.journalled}
    for name in [name for name in copies if name.startswith("process_")]:
        del copies[name]
    copies["total"][Total.RECOVERIES] = 0
    return copies


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_journalled_write(name):
    die_at_each(SCENARIOS[name], JOURNALLED_WRITES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_line(name):
    die_at_each(SCENARIOS[name], every_line())


def die_at_each(scenario: Scenario, points: set[tuple[CodeType, int]]) -> None:
    """One death per time that a point is reached; the last child survives."""

    def run(kill_at: int | None) -> tuple[Ring, bool]:
        """A new ring and whether the child died; kill_at None: the child stops short of the operation."""
        ring = Ring.create(small_spec(**scenario.changes), lock_timeout_s=5.0)
        ring.register("test", "test")
        scenario.prepare(ring)

        def work(mine: Ring) -> None:
            taken = scenario.take(mine)
            if kill_at is not None:
                stop_at(kill_at, points, signal.SIGKILL)
                scenario.act(mine, taken)

        return ring, was_killed(fork_child(ring, work, scenario.register))

    def end_of(kill_at: int | None) -> dict[str, np.ndarray]:
        ring, _ = run(kill_at)
        found = state(ring)
        ring.close()
        return found

    before, after = end_of(None), end_of(10**9)
    kill_at, ends = 1, []
    while True:
        ring, killed = run(kill_at)
        if not killed:
            break
        assert ring.check() == []  # takes the mutex over, rolls back, and finds every invariant intact
        found = state(ring)
        ends.append("before" if same(found, before) else "after" if same(found, after) else "between")
        make_progress(ring)
        ring.close()
        kill_at += 1
    ring.close()
    assert len(ends) > 3, "the child never got to a journalled write"
    if scenario.one:
        assert "between" not in ends
        assert ends == sorted(ends, key=["before", "after"].index)  # one commit point


def make_progress(ring: Ring) -> None:
    """After any death the ring must serve the others."""
    ring.reap()
    render(ring)
    if ring.spec.deterministic:
        make_deterministic_progress(ring)
        return
    ring.set_limits(max_age=0)  # all that is complete shall be drawn below
    ring.generator_down(1)
    render(ring)
    assert ring.check() == []
    assert ring.stats().backlog == {"one": 0, "two": 0}
    for task in (100, 101):  # the first draw makes room for the second opening, however full the ring was
        if complete := len(ring.groups_snapshot(ring.spec.groups)):
            ring.release(ring.draw(DrawRequest(task, complete, 0), 0.0))
        open_plain(ring, task)
        render(ring)
    assert ring.check() == []


def make_deterministic_progress(ring: Ring) -> None:
    first = ring._control.total(Total.KNOWN)
    for task in range(first, first + 8):
        step = max(task - 1, 0)  # the first that asks for this task
        with pytest.raises(RingTimeout):
            ring.draw(DrawRequest(step, 1, 0), 0.0)
        open_plain(ring, task)
        render(ring)
        if task:
            ring.release(ring.draw(DrawRequest(step, 1, 0), 0.0))
        assert ring.check() == []
