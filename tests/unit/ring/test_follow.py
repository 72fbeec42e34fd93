"""Following a ring: every complete group once, what was evicted in between left out, nothing held back."""

from __future__ import annotations

import numpy as np
from small_rings import open_pair, open_plain, pictures, render

from polygen_stream.ring import DrawRequest
from polygen_stream.ring.follow import Follower


def tasks(groups) -> list[int]:
    return [group.task_id for group in groups]


def test_each_complete_group_comes_once_in_the_order_of_opening(new_ring):
    ring = new_ring()
    follower = Follower(ring)
    assert follower.next(8) is None
    for task in (5, 3, 4):
        open_plain(ring, task)
    assert follower.next(8) is None, "an open group is not complete"
    render(ring)
    assert tasks(follower.next(2)) == [5, 3]
    assert tasks(follower.next(2)) == [4]
    assert follower.next(2) is None
    assert tasks(Follower(ring).next(8)) == [5, 3, 4], "a second one begins with what is there"


def test_a_group_has_its_captions_and_pictures(new_ring):
    ring = new_ring()
    open_pair(ring, 7, "a red car", "a blue car")
    claims = []
    while found := ring.claim((0, 1), 8):
        claims += found
    ring.commit(claims, pictures(claims))
    [group] = Follower(ring).next(1)
    assert (group.caption, group.negative_caption) == ("a red car", "a blue car")
    assert (group.members, group.generators) == ((0, 1, 2, 3), (0, 1, 0, 1))
    assert group.seeds == (70, 71, 70, 71) and group.negative.tolist() == [False, False, True, True]
    by_member = {claim.member: picture for claim, picture in zip(claims, pictures(claims), strict=True)}
    assert all(np.array_equal(group.images[member], by_member[member]) for member in range(4))


def test_failed_pictures_are_left_out(new_ring):
    ring = new_ring(max_retries=0)
    open_plain(ring, 0)
    ring.fail(ring.claim([0], 1), "black")
    render(ring)
    [group] = Follower(ring).next(1)
    assert (group.members, group.generators, len(group.images)) == ((1,), (1,), 1)


def test_a_full_ring_evicts_what_nobody_has_followed_yet(new_ring):
    """16 rows: whoever comes late gets what is still there, and opening never waited for him."""
    ring = new_ring(max_times_sampled=1, min_fill=1)
    follower = Follower(ring)
    for task in range(16):
        open_plain(ring, task)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 4, 0), timeout_s=1))
    for task in range(16, 20):
        open_plain(ring, task)
    render(ring)
    found = tasks(follower.next(64))
    assert len(found) == 16 and set(range(16, 20)) <= set(found)
    assert ring.stats().evicted == 4


def test_a_group_evicted_while_it_is_copied_is_left_out(new_ring, monkeypatch):
    ring = new_ring(max_times_sampled=1, min_fill=1)
    for task in range(16):
        open_plain(ring, task)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 16, 0), timeout_s=1))
    follower, copies = Follower(ring), []
    pixels = ring._control.pixels

    class Busy:
        """The images of a ring that renders something new while the first group is copied."""

        def read(self, slots, out=None):
            if not copies:
                ring._control.pixels = pixels
                open_plain(ring, 99)
                render(ring)
                ring._control.pixels = self
            copies.append(pixels.read(slots, out))
            return copies[-1]

    monkeypatch.setattr(ring._control, "pixels", Busy())
    found = tasks(follower.next(16))
    assert len(found) == 15 and 99 not in found
    assert tasks(follower.next(16)) == [99]
