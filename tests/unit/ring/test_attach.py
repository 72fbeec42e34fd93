from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest
from small_rings import open_plain, render, small_spec

from polygen_stream.ring import DrawRequest, LostLock, Ring, RingMismatch, ring_bytes
from polygen_stream.ring.layout import LIBC_OFFSET, SPEC_OFFSET, VERSION, Header
from polygen_stream.ring.processes import is_alive, start_time


def attach_error(fd: int) -> str:
    """The refusal to attach to a copy of `fd` (the copy is closed)."""
    copy = os.dup(fd)
    with pytest.raises(RingMismatch) as caught:
        Ring.attach(copy)
    os.close(copy)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tampered(new_ring, offset: int, data: bytes) -> str:
    ring = new_ring()
    os.pwrite(ring.fd, data, offset)
    return attach_error(ring.fd)


def test_another_version_is_refused(new_ring):
    text = tampered(new_ring, 8 * Header.VERSION, struct.pack("<q", 99))
    assert f"ring version is 99, this process has {VERSION}" in text


def test_another_pid_namespace_is_refused(new_ring):
    assert "ring PID namespace is 5" in tampered(new_ring, 8 * Header.PID_NAMESPACE, struct.pack("<q", 5))


def test_another_libc_is_refused(new_ring):
    assert "ring C library is 'musl" in tampered(new_ring, LIBC_OFFSET, b"musl 1.2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")


def test_another_spec_is_refused(new_ring):
    spec = small_spec()
    offset = spec.to_json().index('"seed":7') + len('"seed":')
    assert "ring spec hash is" in tampered(new_ring, SPEC_OFFSET + offset, b"8")


def test_a_spec_that_makes_no_ring_is_refused(new_ring):
    spec = small_spec()
    offset = spec.to_json().index('"slots":32') + len('"slots":')
    text = tampered(new_ring, SPEC_OFFSET + offset, b"-2")
    assert "the ring's spec cannot be read (ring.slots is -2; it must be at least 1)" in text


def test_a_descriptor_that_is_no_ring_is_refused():
    fd = os.memfd_create("other")
    assert "cannot be mapped" in attach_error(fd)
    os.ftruncate(fd, 100)
    assert "has 100 bytes" in attach_error(fd)
    os.ftruncate(fd, 2**16)
    assert "ring magic number is 0" in attach_error(fd)
    os.close(fd)


def test_nobody_can_shrink_the_ring_under_the_others(new_ring):
    with pytest.raises(PermissionError):
        os.ftruncate(new_ring().fd, 0)


def test_the_size_is_known_before_anything_is_allocated(new_ring):
    ring = new_ring()
    assert os.fstat(ring.fd).st_size == ring_bytes(ring.spec)
    assert os.fstat(ring.fd).st_blocks * 512 == ring_bytes(ring.spec)  # every page is there
    assert ring_bytes(small_spec(slots=4096)) > ring_bytes(ring.spec)


CHILD = """
import os, sys
import numpy as np
from polygen_stream.ring import Ring
fd = int(sys.argv[1])
ring = Ring.attach(fd)
assert not os.get_inheritable(fd)
ring.register("renderer", "child")
claims = ring.claim([0], 8)
ring.commit(claims, np.full((len(claims), 4, 4, 3), 9, np.uint8))
print(len(claims), ring.spec.generators, "torch" in sys.modules)
"""


def test_a_child_attaches_to_the_inherited_descriptor_and_does_not_pass_it_on(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(ring.fd)], pass_fds=[ring.fd], capture_output=True, text=True, check=True
    )
    assert child.stdout.split("\n")[0] == "1 ('one', 'two') False"
    render(ring)
    group = ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0]
    assert (ring.read(group.positive_slots[:1]) == 9).all()
    assert len(ring.reap()) == 1
    assert [p["alive"] for p in ring.stats().processes if p["name"] == "child"] == [False]


def test_a_zombie_and_a_reused_pid_are_dead():
    assert is_alive(os.getpid(), start_time(os.getpid()))
    assert not is_alive(os.getpid(), start_time(os.getpid()) - 1)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not asked yet
    assert start_time(child) is None
    os.waitpid(child, 0)
    assert start_time(child) is None


def test_process_rows_are_used_again(new_ring):
    ring = new_ring()
    for number in range(70):  # more than the table has rows
        child = os.fork()
        if child == 0:
            Ring.attach(os.dup(ring.fd)).register("renderer", f"short-lived {number}")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(ring.reap()) == 1
    stats = ring.stats()
    assert sum(process["alive"] for process in stats.processes) == 1
    assert len(stats.processes) == 64
    assert ring.check() == []


def test_a_state_that_cannot_be_repaired_ends_the_run_with_a_named_error(new_ring):
    """A broken invariant after roll-back must not be papered over: everybody gets LostLock from then on."""
    ring = new_ring()
    open_plain(ring, 0)
    child = os.fork()
    if child == 0:
        mine = Ring.attach(os.dup(ring.fd))
        with mine._control.reading():
            mine._control.columns.slot_group[0] = 5  # behind the journal's back
            os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(LostLock, match="rolling it back left: slot and group table disagree"):
        ring.stats()
    with pytest.raises(LostLock, match="cannot be recovered"):
        ring.stats()
