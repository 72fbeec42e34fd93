"""Bytes of the ring that somebody overwrote: named and refused, never trusted, never a hang or a traceback."""

from __future__ import annotations

import os
import random
import signal
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_children import JOURNALLED_WRITES, fork_child, stop_at, was_killed
from small_rings import open_pair, open_plain, render, small_spec

from polygen_stream.ring import DrawRequest, LostLock, Ring, RingMismatch
from polygen_stream.ring.layout import LIBC_OFFSET, SPEC_OFFSET, Header, columns_of
from polygen_stream.ring.lock import libc_id

WHO = [range(8 * len(Header)), range(LIBC_OFFSET, LIBC_OFFSET + len(libc_id())), range(SPEC_OFFSET, SPEC_OFFSET + 40)]


def refusal(fd: int) -> str:
    copy = os.dup(fd)
    try:
        Ring.attach(copy).close()
    except RingMismatch as error:
        os.close(copy)
        return str(error)
    return "attached"


def test_every_byte_that_says_what_ring_this_is_counts(new_ring):
    ring = new_ring()
    for offset in [offset for part in WHO for offset in part]:
        [byte] = os.pread(ring.fd, 1, offset)
        os.pwrite(ring.fd, bytes([byte ^ 1]), offset)
        text = refusal(ring.fd)
        assert text.startswith(("ring ", "the ring")), f"byte {offset}: {text}"
        assert "\n" not in text
        os.pwrite(ring.fd, bytes([byte]), offset)
    assert refusal(ring.fd) == "attached"  # the bytes are all back


SPEC = small_spec().to_json()
NUMBERS = st.sampled_from(["0", "-1", "1e308", "Infinity", "NaN", "null", '"x"', "[]", "{}", "1" * 30, "[" * 2000])


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_a_damaged_spec_is_refused_in_one_line(data):
    """One value of the spec, or any text in its place."""
    names = ["slots", "groups", "members", "caption_bytes", "seed", "min_fill", "error_buffer"]
    field = data.draw(st.sampled_from(names), "field")
    head, tail = SPEC.split(f'"{field}":')
    value = data.draw(NUMBERS, "value")
    damaged = f'{head}"{field}":{value},{tail.split(",", 1)[1]}'.encode()
    text = data.draw(st.one_of(st.just(damaged), st.binary(max_size=300)), "text")
    ring = Ring.create(small_spec())
    os.pwrite(ring.fd, text, SPEC_OFFSET)
    os.pwrite(ring.fd, struct.pack("<q", len(text)), 8 * Header.SPEC_BYTES)
    complaint = refusal(ring.fd)
    assert complaint.startswith(("ring ", "the ring")) and "\n" not in complaint
    ring.close()


def busy(ring: Ring) -> None:
    """Groups of all states, a lease, a claim."""
    open_plain(ring, 0)
    open_pair(ring, 1)
    render(ring)
    ring.draw(DrawRequest(0, 1, 1), 0.0)
    open_pair(ring, 2)
    ring.claim([0], 1)


def test_check_speaks_about_any_damage_instead_of_failing(new_ring):
    ring, chance = new_ring(), random.Random(1)
    busy(ring)
    names = [column.name for column in columns_of(ring.spec) if column.journalled]
    columns, noticed = ring._control.columns, 0
    for _ in range(2000):
        column = getattr(columns, chance.choice(names)).reshape(-1)
        place, value = chance.randrange(column.size), chance.choice([0, 1, 2, 77, 127])
        before = column[place]
        column[place] = value
        noticed += ring.check() != []
        column[place] = before
    assert ring.check() == []
    assert noticed > 200


@pytest.mark.parametrize("column", ["slot_group", "slot_state", "group_slot", "slot_generator", "log_head"])
def test_damage_found_at_a_recovery_ends_the_run_with_a_named_error(new_ring, column):
    """The holder of the mutex dies in a draw and the columns point nowhere: everybody is told so, nobody waits."""
    ring = new_ring()
    busy(ring)

    def die(mine: Ring) -> None:
        getattr(mine._control.columns, column)[:] = 101
        stop_at(2, JOURNALLED_WRITES, signal.SIGKILL)
        mine.set_step(5)

    assert was_killed(fork_child(ring, die))
    with pytest.raises(LostLock, match=r"a process died in .* and rolling it back left"):
        ring.stats()
    peer = Ring.attach(os.dup(ring.fd))
    with pytest.raises(LostLock, match="cannot be recovered"):
        peer.stats()
    peer.close()
