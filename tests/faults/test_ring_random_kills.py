"""Random deaths of processes that never pause: invariants hold after each, and every image is accounted for by id.

Each process writes down what it is about to do and what came of it. From these diaries follows what must lie in the
ring, what may lie in it, and what must have been drawn before it left.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from killed_children import fork_child, was_killed
from small_rings import small_spec

from polygen_stream.ring import DrawRequest, Kind, LockTimeout, Member, Ring, RingTimeout

SHAPE = (8, 8, 3)
BATCH = 5
PATIENCE_S = 120.0  # for what takes milliseconds when nothing hangs
Write = Callable[..., None]


def caption(ring: Ring, write: Write) -> None:
    """Opens groups for ever, every third a pair."""
    for number in itertools.count():
        task = os.getpid() * 10**6 + number
        pair = number % 3 == 0
        members = [Member(g, polarity, g) for polarity in ((0, 1) if pair else (0,)) for g in (0, 1)]
        write("opening", task)
        try:
            ring.open_group(task, Kind(pair), f"+{task}", f"-{task}" if pair else None, members, 0.05)
            write("opened", task)
        except RingTimeout:
            write("refused", task)
        ring.heartbeat("captioning")


def paint(ring: Ring, write: Write) -> None:
    """Renders for ever; a picture is one colour, which says whose it is."""
    for number in itertools.count():
        ring.heartbeat("painting")
        claims = ring.claim([0, 1], 4)
        if not claims:
            time.sleep(0.0005)
        elif number % 10 == 0:
            ring.fail(claims, "bad luck")
        else:
            names = [(claim.task_id, claim.polarity, claim.generator) for claim in claims]
            time.sleep(0.002)  # as if it took a while: a painter that dies mostly dies with claims
            write("committing", names)
            images = np.empty((len(claims), *SHAPE), np.uint8)
            images[:] = np.array([colour(task, polarity) for task, polarity, _ in names])[:, None, None, None]
            assert all(ring.commit(claims, images)), "a living owner lost a claim"
            write("committed", names)


def train(ring: Ring, write: Write) -> None:
    """Draws for ever and looks at every picture. No PAIR demand: waiting for pairs may push out what nobody saw."""
    for step in itertools.count():
        ring.heartbeat("training")
        write("drawing", step)
        try:
            draw = ring.draw(DrawRequest(step, BATCH, 0), 0.05)
        except RingTimeout:
            write("starved", step)
            continue
        write("drew", [group.task_id for group in draw.groups])
        for group in draw.groups:
            assert (ring.read(group.positive_slots) == colour(group.task_id, 0)).all(), group
        ring.release(draw)


def colour(task_id: int, polarity: int) -> int:
    return (task_id * 2 + polarity) % 251


@dataclass
class Diaries:
    """What the processes wrote, read as it grows. Image: (task, polarity, generator)."""

    folder: Path
    opened: set[int] = field(default_factory=set)
    tried: set[tuple] = field(default_factory=set)  # images a commit began for
    committed: set[tuple] = field(default_factory=set)  # images whose commit was answered
    drawn: Counter = field(default_factory=Counter)  # task -> draws
    drawn_unwritten: set[int] = field(default_factory=set)  # tasks, by those who died before they could write it
    last: dict[Path, tuple] = field(default_factory=dict)  # of each process, the last entry
    _read: dict[Path, int] = field(default_factory=dict)

    def writer(self, name: str) -> Write:
        """For a process that was just forked; each entry is one write, which no signal cuts in two."""
        fd = os.open(self.folder / f"{name}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return lambda word, value: os.write(fd, (json.dumps([word, value]) + "\n").encode())

    def read(self) -> None:
        for path in sorted(self.folder.iterdir()):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # being written
                    self._read[path] = self._read.get(path, 0) + len(line)
                    self._note(path, *json.loads(line))

    def _note(self, path: Path, word: str, value) -> None:
        self.last[path] = (word, value)
        if word == "opened":
            self.opened.add(value)
        elif word in ("committing", "committed"):
            (self.tried if word == "committing" else self.committed).update(map(tuple, value))
        elif word == "drew":
            self.drawn.update(value)

    def unanswered(self, word: str) -> list:
        """Of the processes that died inside a call: what they had asked for."""
        return [value for last, value in self.last.values() if last == word]


def images_of(ring: Ring) -> dict[int, set[tuple]]:
    """Task -> images, of every complete group in the ring."""
    found = {}
    for group in ring.groups_snapshot(ring.spec.groups):
        shown = [(group.task_id, 0, generator) for generator in group.positive_generators]
        found[group.task_id] = {*shown, *((group.task_id, 1, generator) for generator in group.negative_generators)}
    return found


def note_draws_of_the_dead(ring: Ring, diaries: Diaries) -> None:
    """Before the reaper comes: their leases still keep what they drew in the ring."""
    diaries.drawn_unwritten |= {g.task_id for g in ring.groups_snapshot(ring.spec.groups) if g.times_sampled}


def check_while_they_work(ring: Ring, diaries: Diaries) -> None:
    assert ring.check() == []
    diaries.read()
    committed = set(diaries.committed)
    in_ring = images_of(ring)  # after `committed` was read, before `tried` is
    diaries.read()
    for task, images in in_ring.items():
        assert images <= diaries.tried, f"task {task} shows images nobody painted"
        missing = {image for image in committed if image[0] == task} - images
        assert not missing, f"task {task} lost {missing}"


def check_accounts(ring: Ring, diaries: Diaries) -> str:
    """Everybody is dead and nothing is open. The sums must come out, by counter and by task id."""
    diaries.read()
    stats, in_ring = ring.stats(), images_of(ring)
    assert stats.groups["plain"]["open"] == stats.groups["pair"]["open"] == 0
    assert len(in_ring) == stats.groups_completed - stats.evicted

    total = sum(stats.images_committed.values())
    unanswered = {tuple(image) for images in diaries.unanswered("committing") for image in images}
    assert len(diaries.committed) <= total <= len(diaries.committed | unanswered)
    assert stats.groups_opened - len(diaries.opened) in range(len(diaries.unanswered("opening")) + 1)

    hidden = stats.samples - diaries.drawn.total()  # draws of trainers that died before they could write
    assert hidden in range(0, BATCH * len(diaries.unanswered("drawing")) + 1, BATCH)

    shown = set().union(*in_ring.values())
    left = diaries.committed - shown
    left_tasks = {task for task, _, _ in left}
    assert left_tasks.isdisjoint(in_ring), "a group in the ring lost an image"
    assert len(left_tasks) <= stats.evicted + stats.dropped
    unseen = {task for task, polarity, _ in left if polarity == 0} - set(diaries.drawn) - diaries.drawn_unwritten
    assert not unseen, f"groups left that nobody ever drew: {unseen}"
    return (
        f"{total} images committed = {len(shown)} in the ring + {total - len(shown)} in {stats.evicted} evicted groups "
        f"that were all drawn before; {stats.reaped} members reaped, {stats.recoveries} recoveries of the mutex"
    )


def holds_the_mutex(pid: int, impatient: Ring) -> bool:
    """Whether a stopped process holds it; if so the error must name it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            impatient.stats()
            return False
        except LockTimeout as error:
            if error.pid == pid:
                return True  # otherwise somebody else who has to wait for a core
    raise AssertionError("the mutex is not granted and the stopped process does not hold it")


def wait_until_all_get_on(ring: Ring, pids: list[int]) -> None:
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE_S:
        waited = time.monotonic() - began
        beating = {p["pid"] for p in ring.stats().processes if p["alive"] and p["heartbeat_age_s"] < waited}
        if beating.issuperset(pids):
            return
        time.sleep(0.005)
    raise AssertionError(f"stuck: {set(pids) - beating}; {ring.stats()}")


def holders(inode: int) -> list[str]:
    """Descriptors and mappings of a memfd in any process: it lives as long as there is one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [
                str(fd) for fd in (process / "fd").iterdir() if fd.stat().st_ino == inode and "memfd" in os.readlink(fd)
            ]
            for line in (process / "maps").read_text().splitlines():
                if "memfd:polygen-ring" in line and int(line.split()[4]) == inode:
                    found.append(f"{process}: {line}")
        except OSError:  # it ended, or is not ours
            continue
    return found


@pytest.mark.parametrize(
    "kills",
    [30, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
@pytest.mark.parametrize("storage", ["memory", "file"])
def test_random_kills(tmp_path, kills, storage):
    descriptors, names = set(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    file = str(tmp_path / "images.ring") if storage == "file" else ""
    spec = small_spec(slots=64, groups=32, image_shape=SHAPE, max_retries=5, storage=file)
    ring = Ring.create(spec, lock_timeout_s=PATIENCE_S)
    inode = os.fstat(ring.fd).st_ino
    impatient = Ring.attach(os.dup(ring.fd), lock_timeout_s=0.2)
    (tmp_path / "diaries").mkdir()
    diaries = Diaries(tmp_path / "diaries")
    chance = random.Random(kills)
    running: dict[int, Callable] = {}
    stopped = holding = 0

    def start(role: Callable) -> None:
        running[fork_child(ring, lambda mine: role(mine, diaries.writer(role.__name__)))] = role

    for role in (caption, caption, paint, paint, train, train):
        start(role)
    wait_until_all_get_on(ring, list(running))
    try:
        for number in range(kills):
            time.sleep(chance.uniform(0.0, 0.03))
            victim = chance.choice(sorted(running))
            if chance.random() < 0.3:
                os.kill(victim, signal.SIGSTOP)
                os.waitid(os.P_PID, victim, os.WSTOPPED)
                stopped += 1
                holding += holds_the_mutex(victim, impatient)
            os.kill(victim, signal.SIGKILL)
            assert was_killed(victim)
            role = running.pop(victim)
            note_draws_of_the_dead(ring, diaries)
            assert len(ring.reap()) <= 1  # none when it died before it registered
            check_while_they_work(ring, diaries)
            start(role)
            if number % 10 == 9:
                wait_until_all_get_on(ring, list(running))
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        killed = [was_killed(pid) for pid in running]
    assert all(killed), "a process ended by itself"
    note_draws_of_the_dead(ring, diaries)
    ring.reap()
    ring.register("renderer", "the last")
    paint_the_rest(ring, diaries.writer("last"))
    assert ring.check() == []
    assert ring.stats().groups["plain"]["leased"] == ring.stats().groups["pair"]["leased"] == 0
    accounts = check_accounts(ring, diaries)
    print(f"\n{kills} kills, {stopped} stopped before ({holding} with the mutex): 0 violations, 0 hangs; {accounts}")
    if kills >= 100:
        assert ring.stats().recoveries > 0 and ring.stats().reaped > 0  # some died with the mutex, some with claims
    ring.close()
    impatient.close()
    assert holders(inode) == []
    assert len(os.listdir("/proc/self/fd")) - len(descriptors) == 1  # the last painter's diary
    assert not {name for name in set(os.listdir("/dev/shm")) - names if "polygen" in name}


def paint_the_rest(ring: Ring, write: Write) -> None:
    while claims := ring.claim([0, 1], 8):
        names = [(claim.task_id, claim.polarity, claim.generator) for claim in claims]
        write("committing", names)
        images = np.stack([np.full(SHAPE, colour(task, polarity), np.uint8) for task, polarity, _ in names])
        assert all(ring.commit(claims, images))
        write("committed", names)
