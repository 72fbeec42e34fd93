"""Writers, trainers and holders of the mutex that are killed or stopped: nothing is lost, damaged or left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from killed_children import JOURNALLED_WRITES, fork_child, lines_of, stop_at, was_killed
from small_rings import open_plain, pictures, render

from polygen_stream.ring import DrawRequest, LockTimeout, Ring, RingTimeout, members


def test_writer_killed_anywhere_in_commit_is_rendered_again(new_ring):
    """Every line of Ring.commit, pixels half written included: members come back and show the right pictures."""
    points = lines_of(Ring.commit.__code__) | lines_of(members.commit_images.__code__)
    kill_at, deaths = 1, 0
    while True:
        ring = new_ring()
        for task in range(2):
            open_plain(ring, task)

        def commit(mine: Ring, kill_at: int = kill_at) -> None:
            claims = mine.claim([0], 2)
            stop_at(kill_at, points, signal.SIGKILL)
            mine.commit(claims, pictures(claims))

        if not was_killed(fork_child(ring, commit)):
            break
        deaths += 1
        committed = ring.stats().images_committed["one"]
        assert committed in (0, 2)
        [line] = ring.reap()
        assert line.startswith("renderer 'child' (pid ")
        assert f"died: {2 - committed} members given back" in line
        assert render(ring) == 4 - committed
        assert ring.check() == []
        for group in ring.draw(DrawRequest(0, 2, 0), 0.0).groups:
            for slot, generator in zip(group.positive_slots, group.positive_generators, strict=True):
                seed = 10 * group.task_id + generator
                expected = np.random.default_rng([seed, 0]).integers(0, 256, (4, 4, 3), np.uint8)
                assert (ring.read([slot])[0] == expected).all()
        kill_at += 1
    assert deaths > 10


def test_zombie_commit_is_refused(new_ring):
    """A reaped process that comes back with its old claim cannot touch the slot, whoever has it by then."""
    ring = new_ring()
    open_plain(ring, 0)
    reader, writer = os.pipe()

    def claim_and_die(mine: Ring) -> None:
        [claim] = mine.claim([0], 1)
        os.write(writer, pickle.dumps(claim))
        os.kill(os.getpid(), signal.SIGKILL)

    assert was_killed(fork_child(ring, claim_and_die))
    stale = pickle.loads(os.read(reader, 4096))
    os.close(reader)
    os.close(writer)
    black = np.zeros((1, 4, 4, 3), np.uint8)
    assert ring.commit([stale], black) == [False]  # not ours
    ring.reap()
    assert ring.commit([stale], black) == [False]  # nobody's
    [fresh] = ring.claim([0], 1)
    assert (fresh.slot, fresh.generation) == (stale.slot, stale.generation + 1)
    assert ring.commit([stale], black) == [False]  # the same slot, ours, but another generation
    assert ring.commit([fresh], pictures([fresh])) == [True]
    assert ring.commit([stale], black) == [False]
    assert (ring.read([fresh.slot]) == pictures([fresh])).all()
    assert ring.stats().stale_commits == 4
    assert ring.check() == []


def test_a_member_that_kills_its_renderers_is_given_up(new_ring):
    ring = new_ring(max_retries=2)
    open_plain(ring, 0)
    render(ring, (0,))
    for _ in range(3):
        assert ring.stats().backlog["two"] == 1

        def die(mine: Ring) -> None:
            assert len(mine.claim([1], 1)) == 1
            os.kill(os.getpid(), signal.SIGKILL)

        assert was_killed(fork_child(ring, die))
        ring.reap()
    assert ring.stats().failed["two"] == 1
    assert ring.stats().degraded == 1


def test_leases_of_a_dead_trainer_are_dropped(new_ring):
    ring = new_ring(slots=4, max_times_sampled=1)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)

    def draw_and_die(mine: Ring) -> None:
        mine.draw(DrawRequest(0, 2, 0), 0.0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert was_killed(fork_child(ring, draw_and_die))
    with pytest.raises(RingTimeout, match="2 leased"):
        open_plain(ring, 2)
    assert "2 leases dropped" in ring.reap()[0]
    open_plain(ring, 2)
    assert ring.reap() == []


def test_a_stopped_holder_of_the_mutex_is_named_and_can_be_killed(new_ring):
    ring = new_ring()
    open_plain(ring, 0)

    def stop_inside(mine: Ring) -> None:
        stop_at(2, JOURNALLED_WRITES, signal.SIGSTOP)
        mine.claim([0], 1)

    child = fork_child(ring, stop_inside)
    os.waitid(os.P_PID, child, os.WSTOPPED)
    impatient = Ring.attach(os.dup(ring.fd), lock_timeout_s=0.2)
    with pytest.raises(LockTimeout) as caught:
        impatient.stats()
    assert caught.value.pid == child
    assert f"renderer 'child' (pid {child}) has held it in CLAIM" in str(caught.value)
    os.kill(child, signal.SIGKILL)
    assert was_killed(child)
    assert impatient.stats().recoveries == 1
    impatient.close()
    ring.reap()
    assert render(ring) == 2
    assert ring.check() == []


SUPERVISOR = """
import subprocess, sys, time
from polygen_stream.ring import Ring, RingSpec, ring_bytes
ring = Ring.create(RingSpec(slots=1024, image_shape=(256, 256, 3), groups=512, members=8, caption_bytes=64,
                            generators=("one",), seed=0))
child = '''
import sys, time
from polygen_stream.ring import Ring
ring = Ring.attach(int(sys.argv[1]))
print(flush=True)
time.sleep(600)
'''
children = [subprocess.Popen([sys.executable, "-c", child, str(ring.fd)], pass_fds=[ring.fd], stdout=subprocess.PIPE)
            for _ in range(2)]
for c in children: c.stdout.readline()
print(ring_bytes(ring.spec), *[c.pid for c in children], flush=True)
time.sleep(600)
"""


def shared_bytes() -> int:
    with open("/proc/meminfo") as meminfo:
        return next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("Shmem:"))


def test_memory_returns_and_nothing_stays_after_all_are_killed():
    names, before = set(os.listdir("/dev/shm")), shared_bytes()
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    size, *children = map(int, supervisor.stdout.readline().split())
    assert shared_bytes() - before > size // 2
    for pid in (supervisor.pid, *children):
        os.kill(pid, signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    deadline = time.monotonic() + 30
    while shared_bytes() - before > size // 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert shared_bytes() - before < size // 4
    assert not {name for name in set(os.listdir("/dev/shm")) - names if "polygen" in name}
