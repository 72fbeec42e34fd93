"""100 random SIGKILLs over producers and a trainer that never pause: invariants hold and the ring goes on."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time

import numpy as np
from dying import fork_child, was_killed

from polygen_stream.errors import PolygenError
from polygen_stream.ring import Kind, Member, Ring, RingTimeout

KILLS = 100
SHAPE = (8, 8, 3)


def caption(ring: Ring) -> None:
    """Opens groups for ever, every third a pair."""
    for number in itertools.count():
        task = os.getpid() * 10**6 + number
        pair = number % 3 == 0
        members = [Member(g, polarity, g) for polarity in ((0, 1) if pair else (0,)) for g in (0, 1)]
        try:
            ring.open_group(task, Kind(pair), f"+{task}", f"-{task}" if pair else None, members, 0.05)
        except RingTimeout:
            ring.heartbeat("ring full")


def paint(ring: Ring) -> None:
    """Renders for ever; a picture is one colour, which says whose it is."""
    for number in itertools.count():
        claims = ring.claim([0, 1], 4)
        if not claims:
            time.sleep(0.0005)
        elif number % 10 == 0:
            ring.fail(claims, "bad luck")
        else:
            images = np.empty((len(claims), *SHAPE), np.uint8)
            images[:] = np.array([colour(c.task_id, c.polarity) for c in claims])[:, None, None, None]
            ring.commit(claims, images)


def train(ring: Ring) -> None:
    """Draws for ever and looks at every picture."""
    for step in itertools.count():
        try:
            draw = ring.draw(step, 4, 1, 0.05)
        except RingTimeout:
            continue
        for group in draw.groups:
            for polarity, slots in enumerate((group.positive_slots, group.negative_slots)):
                assert (ring.read(slots) == colour(group.task_id, polarity)).all(), group
        ring.release(draw)


def colour(task_id: int, polarity: int) -> int:
    return (task_id * 2 + polarity) % 251


def test_a_hundred_random_kills(new_ring):
    ring = new_ring(slots=64, groups=32, image_shape=SHAPE, max_open=16, max_retries=5)
    chance = random.Random(1)
    roles = [caption, paint, paint, train]
    running = {fork_child(ring, role): role for role in roles}
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.0, 0.03))
            pid = chance.choice(sorted(running))
            role = running.pop(pid)
            os.kill(pid, signal.SIGKILL)
            assert was_killed(pid)
            assert len(ring.reap()) <= 1  # none when it died before it registered
            assert ring.check() == []
            running[fork_child(ring, role)] = role
        before, deadline = ring.stats(), time.monotonic() + 60
        while time.monotonic() < deadline:  # nobody is stuck: all of them get on
            after = ring.stats()
            if after.draws > before.draws + 5 and after.groups_opened > before.groups_opened + 5:
                break
            time.sleep(0.01)
        else:
            raise PolygenError(f"no progress after the kills: {after}")
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        killed = [was_killed(pid) for pid in running]
    assert all(killed), "a role ended by itself"
    ring.reap()
    assert ring.check() == []
    stats = ring.stats()
    assert stats.groups["plain"]["leased"] == stats.groups["pair"]["leased"] == 0
    assert stats.reaped > 0
    assert stats.recoveries > 0  # some of them died holding the mutex (about one in six)
    assert sum(stats.images_committed.values()) > 100
