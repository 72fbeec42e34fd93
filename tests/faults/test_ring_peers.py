"""What the living notice of the dead and the stopped, and of peers that are much faster or slower: nothing but time."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psutil
import pytest
from killed_children import JOURNALLED_WRITES, fork_child, lines_of, stop_at, was_killed
from small_rings import open_pair, open_plain, pictures, render, small_spec, tasks

from polygen_stream.ring import DrawRequest, Ring, RingTimeout

PATIENCE_S = 120.0  # for what takes milliseconds when nothing hangs


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


def doing(ring: Ring, pid: int) -> str:
    return next((str(p["doing"]) for p in ring.stats().processes if p["pid"] == pid), "")


@contextmanager
def at_work(ring: Ring, *works: Callable[[Ring], None]) -> Iterator[None]:
    """Processes that come to their end by the end of the block; if it fails they are killed."""
    pids = [fork_child(ring, work) for work in works]
    try:
        yield
    except BaseException:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise
    assert [was_killed(pid) for pid in pids] == [False] * len(pids)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Waits until the process has stopped; kills it if the block fails, for a stopped orphan hangs up its terminal."""
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise


def claims_and_stops_inside(mine: Ring) -> None:
    stop_at(4, JOURNALLED_WRITES, signal.SIGSTOP)
    mine.claim([0], 2)


def waiting_painters(ring: Ring, count: int) -> list[int]:
    """Processes that want the mutex now, and then render one image each."""

    def paint(mine: Ring) -> None:
        claims = mine.claim([1], 1)
        assert mine.commit(claims, pictures(claims)) == [True]

    # They cannot even register while the mutex is held; that they sleep is how it is seen from outside.
    pids = [fork_child(ring, paint) for _ in range(count)]
    for pid in pids:
        until(
            lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_SLEEPING, "a process that waits for the mutex"
        )
    return pids


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGCONT])
def test_peers_that_wait_for_a_stopped_holder_go_on_after_it(new_ring, fate):
    """Killed: one of them recovers, once. Continued: nobody has to. None of them sees an error."""
    ring = new_ring()
    for task in range(3):
        open_plain(ring, task)
    killed = fate == signal.SIGKILL
    holder = fork_child(ring, claims_and_stops_inside)
    with stopped(holder):
        painters = waiting_painters(ring, 3)
        os.kill(holder, fate)
        assert was_killed(holder) is killed
    assert [was_killed(pid) for pid in painters] == [False] * 3
    stats = ring.stats()
    assert stats.recoveries == killed
    assert stats.images_committed == {"one": 0, "two": 3}
    assert len(ring.reap()) == 4
    assert ring.stats().reaped == (0 if killed else 2)  # the claim was rolled back, or made and left behind
    assert render(ring) == 3
    assert ring.check() == []


def test_a_stopped_writer_is_not_dead_and_its_commit_counts(new_ring):
    ring = new_ring()
    open_plain(ring, 0)

    def pause(mine: Ring) -> None:
        claims = mine.claim([0], 1)
        os.kill(os.getpid(), signal.SIGSTOP)
        assert mine.commit(claims, pictures(claims)) == [True]

    child = fork_child(ring, pause)
    with stopped(child):
        assert ring.reap() == []
        assert ring.claim([0], 1) == []  # still the stopped one's
        assert render(ring, (1,)) == 1  # nobody waits for it
        os.kill(child, signal.SIGCONT)
        assert not was_killed(child)
    assert ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0].positive_generators == (0, 1)
    assert ring.check() == []


def test_the_supervisor_dies_with_the_mutex_and_the_ring_outlives_it():
    """Whoever made the ring is a process like any other; the descriptor keeps the memory."""
    ours, theirs = socket.socketpair()
    supervisor = os.fork()
    if supervisor == 0:
        try:
            ring = Ring.create(small_spec())
            ring.register("supervisor", "main")
            open_plain(ring, 0)
            socket.send_fds(theirs, [b"ring"], [ring.fd])
            theirs.recv(1)
            stop_at(12, JOURNALLED_WRITES, signal.SIGKILL)
            open_plain(ring, 1)
        finally:
            os._exit(1)
    _, [fd], _, _ = socket.recv_fds(ours, 16, 1)
    ring = Ring.attach(fd)
    ring.register("renderer", "heir")
    ours.send(b"!")
    assert was_killed(supervisor)
    assert ring.stats().recoveries == 1
    assert ring.stats().groups_opened == 1  # half a group is no group
    assert ring.reap() == [f"supervisor 'main' (pid {supervisor}) died: 0 members given back, 0 leases dropped"]
    open_plain(ring, 1)
    assert render(ring) == 4
    assert sorted(tasks(ring.draw(DrawRequest(0, 2, 0), 0.0))) == [0, 1]
    assert ring.check() == []
    ring.close()
    ours.close()
    theirs.close()


def test_reader_killed_anywhere_between_draw_and_release_leaves_no_lease(new_ring):
    """Every line of drawing, reading and releasing: the batch was drawn or not, and can be evicted afterwards."""
    functions = (Ring.draw, Ring._as_draw, Ring.read, Ring.release)
    points = set().union(*(lines_of(function.__code__) for function in functions))
    kill_at, drawn = 1, []
    while True:
        ring = new_ring(slots=4, max_times_sampled=1)
        open_plain(ring, 0)
        open_plain(ring, 1)
        render(ring)

        def train(mine: Ring, kill_at: int = kill_at) -> None:
            stop_at(kill_at, points, signal.SIGKILL)
            draw = mine.draw(DrawRequest(0, 2, 0), 0.0)
            mine.read([slot for group in draw.groups for slot in group.positive_slots])
            mine.release(draw)

        if not was_killed(fork_child(ring, train)):
            break
        ring.reap()
        drawn.append(ring.stats().draws)
        assert ring.stats().groups["plain"]["leased"] == 0
        if drawn[-1] == 0:
            ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
        open_plain(ring, 2)
        assert ring.check() == []
        kill_at += 1
    assert drawn == sorted(drawn) and {*drawn} == {0, 1}


def test_captioner_killed_while_it_waits_at_a_full_ring_has_reserved_nothing(new_ring):
    ring = new_ring(slots=4)
    open_plain(ring, 0)
    open_plain(ring, 1)
    captioner = fork_child(ring, lambda mine: open_pair(mine, 2, timeout_s=PATIENCE_S))
    until(lambda: doing(ring, captioner) == "waiting to open a group", "a captioner at the full ring")
    os.kill(captioner, signal.SIGKILL)
    assert was_killed(captioner)
    assert len(ring.reap()) == 1
    assert render(ring) == 4
    ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
    open_pair(ring, 2)
    assert ring.stats().groups_opened == 3
    assert ring.check() == []


def test_trainer_killed_while_it_waits_for_pairs_no_longer_pushes_plain_groups_out(new_ring):
    ring = new_ring(slots=4)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    trainer = fork_child(ring, lambda mine: mine.draw(DrawRequest(0, 0, 1), PATIENCE_S))
    until(lambda: doing(ring, trainer).startswith("waiting to draw"), "a trainer that waits for a pair")
    os.kill(trainer, signal.SIGKILL)
    assert was_killed(trainer)
    ring.reap()
    with pytest.raises(RingTimeout, match="2 never drawn"):
        open_plain(ring, 2)
    assert ring.stats().evicted == 0


def test_a_ring_for_one_group_is_full_and_empty_all_the_time_and_nobody_is_stuck(new_ring):
    ring = new_ring(slots=2, groups=1, members=2, max_times_sampled=1)
    rounds = 30

    def caption(mine: Ring) -> None:
        for task in range(rounds):
            open_plain(mine, task, timeout_s=PATIENCE_S)

    def paint(generator: int, mine: Ring) -> None:
        done = 0
        while done < rounds:
            done += render(mine, (generator,))

    with at_work(ring, caption, partial(paint, 0), partial(paint, 1)):
        for step in range(rounds):
            draw = ring.draw(DrawRequest(step, 1, 0), PATIENCE_S)
            assert tasks(draw) == [step]
            ring.release(draw)
    assert ring.stats().evicted == rounds - 1
    assert ring.check() == []


def test_a_generator_twenty_times_faster_is_bounded_and_starves_nobody(new_ring):
    """The fast one leads by the groups that may be open, not more; complete groups come at the pace of the slow one."""
    slow_s, lead, wanted = 0.02, 6, 60
    ring = new_ring(slots=48, groups=24, max_open=lead)

    def caption(mine: Ring) -> None:
        task = 0
        while mine.step == 0:
            try:
                open_plain(mine, task, timeout_s=0.05)
                task += 1
            except RingTimeout:
                pass

    def paint(generator: int, seconds: float, mine: Ring) -> None:
        while mine.step == 0:
            done = render(mine, (generator,), limit=1)
            time.sleep(seconds if done else 0.001)

    leads, step = [], 0
    with at_work(ring, caption, partial(paint, 0, slow_s / 20), partial(paint, 1, slow_s)):
        while (stats := ring.stats()).groups_completed < wanted:
            leads.append(stats.images_committed["one"] - stats.images_committed["two"])
            draw = ring.draw(DrawRequest(step, 1, 0), PATIENCE_S)
            assert draw.groups[0].positive_generators == (0, 1)  # complete, never the fast one's half
            ring.release(draw)
            step += 1
            time.sleep(0.005)
        ring.set_step(1)
    assert 2 <= max(leads) <= lead
    stats = ring.stats()
    assert 0 <= stats.images_committed["two"] - stats.groups_completed <= lead  # nothing the slow one made was in vain
    assert stats.groups["plain"]["open"] <= lead
    assert ring.check() == []
