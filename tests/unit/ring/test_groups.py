from __future__ import annotations

import pytest
from small_rings import open_pair, open_plain, pictures, render, tasks

from polygen_stream.base.errors import PolygenError
from polygen_stream.ring import CaptionTooLong, DrawRequest, GroupRequest, Kind, Member, RingTimeout


def test_a_group_is_opened_whole_or_not_at_all(new_ring):
    ring = new_ring(slots=6)
    open_pair(ring, 0)
    with pytest.raises(RingTimeout):  # 4 slots wanted, 2 free
        open_pair(ring, 1)
    assert ring.stats().free_slots == 2
    assert ring.stats().groups_opened == 1
    open_plain(ring, 2)
    assert ring.stats().free_slots == 0
    assert ring.check() == []


def test_full_ring_deadline_names_the_lagging_generator_and_its_process(new_ring):
    ring = new_ring(slots=4)
    ring.register("renderer", "slow-one")
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring, (0,))
    ring.claim([1], 1)
    with pytest.raises(RingTimeout) as caught:
        open_plain(ring, 2, timeout_s=0.05)
    text = str(caught.value)
    assert "task 2 waited 0." in text
    assert "0 of 4 slots free, 2 groups open" in text
    assert "generator 'two' lags with 2 members (1 being written)" in text
    assert "renderer 'slow-one' (pid " in text


def test_full_ring_deadline_names_the_trainer_that_does_not_draw(new_ring):
    ring = new_ring(slots=4)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    with pytest.raises(
        RingTimeout, match=r"2 complete \(2 never drawn, 0 leased\); waiting for a trainer \(none is alive\) to draw"
    ):
        open_plain(ring, 2)
    assert ring.stats().open_wait_s >= 0


def test_waiting_to_open_is_counted(new_ring):
    ring = new_ring(slots=4)
    open_pair(ring, 0)
    with pytest.raises(RingTimeout):
        open_plain(ring, 1, timeout_s=0.05)
    assert 0.049 <= ring.stats().open_wait_s < 2.0  # the deadline counts from the call, the wait from the first attempt


def test_open_groups_are_bounded(new_ring):
    ring = new_ring(max_open=2)
    open_plain(ring, 0)
    open_plain(ring, 1)
    with pytest.raises(RingTimeout, match="the limit of 2 open groups is reached"):
        open_plain(ring, 2)
    render(ring)
    open_plain(ring, 2)


def test_a_fast_generator_cannot_fill_the_ring(new_ring):
    """One generator renders everything at once, the other is 20 times slower: the ring holds what both can do."""
    ring = new_ring(slots=32, max_open=4, groups=16)
    task, fast, slow = 0, 0, 0
    for turn in range(400):
        try:
            open_plain(ring, task)
            task += 1
        except RingTimeout:
            pass
        fast += render(ring, (0,))
        slow += render(ring, (1,), limit=1) if turn % 20 == 0 else 0
        stats = ring.stats()
        if stats.groups["plain"]["complete"] >= 2:
            ring.release(ring.draw(DrawRequest(turn, 2, 0), 0.0))
        assert stats.groups["plain"]["open"] <= 4
    assert slow == 20
    assert slow <= fast <= slow + 4
    assert ring.stats().groups_completed == slow
    assert ring.check() == []


def test_over_long_caption_is_rejected_and_counted_not_cut(new_ring):
    ring = new_ring(caption_bytes=8)
    with pytest.raises(CaptionTooLong, match=r"caption of 9 bytes, ring\.caption_bytes is 8"):
        open_plain(ring, 0, caption="x" * 9)
    with pytest.raises(CaptionTooLong):
        open_plain(ring, 0, caption="\u00e4" * 5)  # 5 characters, 10 bytes
    with pytest.raises(CaptionTooLong):
        open_pair(ring, 0, caption="short", negative="y" * 9)
    assert ring.stats().captions_rejected == 3
    assert ring.stats().free_slots == 32
    open_plain(ring, 1, caption="\u00e4" * 4)
    render(ring)
    assert ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0].caption == "\u00e4" * 4


@pytest.mark.parametrize(
    ("kind", "caption", "negative", "members", "complaint"),
    [
        (Kind.PLAIN, "a", "b", [Member(0, 0, 1)], "PLAIN group has none"),
        (Kind.PAIR, "a", None, [Member(0, 0, 1)], "needs a negative"),
        (Kind.PAIR, "a", "a", [Member(0, 0, 1)], "equals the caption"),
        (Kind.PLAIN, "a", None, [], "asks for 0 images"),
        (Kind.PLAIN, "a", None, [Member(0, 0, 1)] * 5, "asks for 5 images"),
        (Kind.PLAIN, "a", None, [Member(2, 0, 1)], "generator 2 of 2"),
        (Kind.PLAIN, "a", None, [Member(0, 0, 2**64)], "64 unsigned bits"),
        (Kind.PLAIN, "a", None, [Member(0, 0, 1), Member(0, 1, 1)], "PLAIN but asks for a negative"),
        (Kind.PAIR, "a", "b", [Member(0, 1, 1)], "no positive image"),
        (Kind.PLAIN, "", None, [Member(0, 0, 1)], "empty caption"),
    ],
)
def test_senseless_groups_are_refused(new_ring, kind, caption, negative, members, complaint):
    ring = new_ring()
    with pytest.raises(ValueError, match=complaint):
        ring.open_group(0, kind, caption, negative, members, 0.0)
    assert ring.stats().free_slots == 32


def test_nothing_is_opened_after_the_end_of_opening(new_ring):
    ring = new_ring()
    ring.finish_opening()
    with pytest.raises(PolygenError, match="after finish_opening"):
        open_plain(ring, 0)


def test_claims_are_of_one_generator_with_the_largest_backlog_oldest_first(new_ring):
    ring = new_ring()
    for task in range(3):
        open_plain(ring, task)
    assert len(ring.claim([0], 2)) == 2  # generator one has 1 member left, generator two has 3
    claims = ring.claim([0, 1], 10)
    assert [claim.generator for claim in claims] == [1, 1, 1]
    assert [claim.task_id for claim in claims] == [0, 1, 2]
    assert [claim.seed for claim in claims] == [1, 11, 21]
    assert [claim.task_id for claim in ring.claim([0, 1], 10)] == [2]
    assert ring.claim([0, 1], 10) == []


def test_claims_carry_the_text_and_seed_of_their_polarity(new_ring):
    ring = new_ring()
    members = [Member(0, 0, 2**64 - 1), Member(0, 1, 2**63)]
    ring.open_group(5, Kind.PAIR, "a red cup", "a blue cup", members, 0.0)
    positive, negative = ring.claim([0], 4)
    assert (positive.caption, positive.polarity, positive.seed) == ("a red cup", 0, 2**64 - 1)
    assert (negative.caption, negative.polarity, negative.seed) == ("a blue cup", 1, 2**63)


def test_pixels_come_back_as_they_were_committed(new_ring):
    ring = new_ring()
    open_plain(ring, 3)
    claims = ring.claim([0], 1) + ring.claim([1], 1)
    images = pictures(claims)
    assert ring.commit(claims, images) == [True, True]
    group = ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0]
    assert (ring.read(group.positive_slots) == images).all()
    assert group.positive_generators == (0, 1)
    out = images * 0
    assert ring.read(group.positive_slots, out=out) is out
    assert (out == images).all()


def test_commit_refuses_pictures_of_another_shape(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    claims = ring.claim([0], 1)
    with pytest.raises(ValueError, match=r"uint8 \(1, 4, 4, 3\)"):
        ring.commit(claims, pictures(claims, (5, 4, 3)))
    assert ring.commit(claims, pictures(claims)) == [True]


def test_a_claim_commits_once(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    claims = ring.claim([0], 1)
    assert ring.commit(claims, pictures(claims)) == [True]
    assert ring.commit(claims, pictures(claims)) == [False]
    assert ring.fail(claims, "late") == [False]
    assert ring.stats().stale_commits == 2
    assert ring.stats().images_committed == {"one": 1, "two": 0}


def test_a_claim_given_twice_in_one_call_ends_once(new_ring):
    ring = new_ring(max_retries=1)
    open_plain(ring, 0)
    [claim] = ring.claim([0], 1)
    assert ring.fail([claim, claim], "black image") == [True, False]
    assert (ring.stats().retries, ring.stats().stale_commits) == (1, 1)
    [claim] = ring.claim([0], 1)
    assert ring.commit([claim, claim], pictures([claim, claim])) == [True, False]
    assert ring.stats().images_committed == {"one": 1, "two": 0}
    assert ring.check() == []


def test_retries_are_bounded_and_then_the_group_is_degraded(new_ring):
    ring = new_ring(max_retries=2)
    open_plain(ring, 0)
    render(ring, (0,))
    for _ in range(3):
        assert ring.stats().groups_completed == 0
        ring.fail(ring.claim([1], 1), "black image")
    stats = ring.stats()
    assert (stats.groups_completed, stats.degraded, stats.retries) == (1, 1, 2)
    assert stats.failed == {"one": 0, "two": 1}
    assert stats.last_failure == {"two": "black image"}
    assert ring.claim([1], 1) == []
    assert ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0].positive_generators == (0,)


def test_group_without_a_positive_is_dropped_and_frees_its_slots(new_ring):
    ring = new_ring(max_retries=0)
    open_pair(ring, 0)
    for claim in ring.claim([0], 4) + ring.claim([1], 4):
        if claim.polarity == 0:
            ring.fail([claim], "black image")
        else:
            ring.commit([claim], pictures([claim]))
    stats = ring.stats()
    assert (stats.dropped, stats.groups_completed, stats.free_slots, stats.free_groups) == (1, 0, 32, 16)
    assert ring.check() == []


def test_pair_without_a_negative_becomes_plain(new_ring):
    ring = new_ring(max_retries=0)
    open_pair(ring, 0)
    for claim in ring.claim([0], 4) + ring.claim([1], 4):
        if claim.polarity == 1:
            ring.fail([claim], "black image")
        else:
            ring.commit([claim], pictures([claim]))
    assert (ring.stats().demoted, ring.stats().degraded) == (1, 1)
    with pytest.raises(RingTimeout, match="0 of 1 PAIR are ready"):
        ring.draw(DrawRequest(0, 0, 1), 0.0)
    group = ring.draw(DrawRequest(0, 1, 0), 0.0).groups[0]
    assert (group.kind, group.negative, group.negative_slots) == (Kind.PLAIN, None, ())
    assert len(group.positive_slots) == 2


def test_a_generator_that_is_down_fails_its_members_and_spares_the_others(new_ring):
    ring = new_ring()
    open_plain(ring, 0)
    open_plain(ring, 1)
    being_written = ring.claim([1], 1)
    render(ring, (0,))
    ring.generator_down(1)
    assert ring.stats().groups_completed == 1  # task 1, without generator two
    assert ring.commit(being_written, pictures(being_written)) == [True]  # its owner still lives and may finish
    assert ring.stats().groups_completed == 2
    open_plain(ring, 2)
    assert [claim.generator for claim in ring.claim([0, 1], 9)] == [0]
    with pytest.raises(PolygenError, match="every generator of its positives is down: two"):
        ring.open_group(3, Kind.PLAIN, "only two", None, [Member(1, 0, 0)], 0.0)
    assert ring.check() == []


def test_used_up_groups_make_room_oldest_first(new_ring):
    ring = new_ring(slots=6, max_times_sampled=1)
    for task in range(3):
        open_plain(ring, task)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 2, 0), 0.0))
    used_up = sorted(group.task_id for group in ring.groups_snapshot(9) if group.times_sampled)
    open_plain(ring, 3)
    assert used_up[0] not in [group.task_id for group in ring.groups_snapshot(9)]
    open_plain(ring, 4)
    with pytest.raises(RingTimeout):  # what is left is open or was never drawn
        open_plain(ring, 5)
    assert ring.stats().evicted == 2
    assert ring.check() == []


def test_leased_groups_are_never_evicted(new_ring):
    ring = new_ring(slots=4, max_times_sampled=1)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    draw = ring.draw(DrawRequest(0, 2, 0), 0.0)
    with pytest.raises(RingTimeout, match="2 leased"):
        open_plain(ring, 2)
    ring.release(draw)
    open_plain(ring, 2)


def test_without_a_reuse_limit_a_full_ring_evicts_only_what_was_drawn_most(new_ring):
    ring = new_ring(slots=6)
    for task in range(3):
        open_plain(ring, task)
    render(ring)
    with pytest.raises(RingTimeout):
        open_plain(ring, 3)
    first = tasks(draw := ring.draw(DrawRequest(0, 2, 0), 0.0))
    ring.release(draw)
    second = tasks(draw := ring.draw(DrawRequest(1, 2, 0), 0.0))  # the third group and one of the first two
    ring.release(draw)
    [twice] = set(first) & set(second)
    open_plain(ring, 4)
    assert twice not in [group.task_id for group in ring.groups_snapshot(9)]


def test_eviction_that_would_not_make_enough_room_does_not_happen(new_ring):
    ring = new_ring(slots=6, max_times_sampled=1)
    open_plain(ring, 0)
    render(ring)
    ring.release(ring.draw(DrawRequest(0, 1, 0), 0.0))
    open_pair(ring, 1)
    with pytest.raises(RingTimeout):
        open_pair(ring, 2)  # needs 4 slots; the used-up group has 2
    assert ring.stats().evicted == 0


def test_plain_groups_yield_to_a_draw_that_waits_for_pairs(new_ring):
    """A ring full of plain groups nobody has drawn would otherwise stop a batch that needs pairs for ever."""
    ring = new_ring(slots=4)
    open_plain(ring, 0)
    open_plain(ring, 1)
    render(ring)
    blocked = True

    def stop() -> bool:  # called while the draw waits: the producers' turn
        nonlocal blocked
        if blocked:
            open_pair(ring, 2)
            render(ring)
            blocked = False
        return False

    assert tasks(ring.draw(DrawRequest(0, 0, 1), 5.0, stop)) == [2]
    assert not blocked
    assert ring.check() == []


def request(task: int, negative: str | None = None) -> GroupRequest:
    """As open_plain and open_pair of small_rings."""
    polarities = (0, 1) if negative else (0,)
    wanted = [Member(generator, polarity, 10 * task + generator) for polarity in polarities for generator in (0, 1)]
    return GroupRequest(task, Kind.PAIR if negative else Kind.PLAIN, f"caption {task}", negative, wanted)


def test_groups_opened_together_are_those_opened_one_by_one(new_ring):
    together, alone = new_ring(), new_ring()
    rows = together.open_groups([request(0), request(1, "negative 1"), request(2)], 0.0)
    assert rows == [open_plain(alone, 0), open_pair(alone, 1), open_plain(alone, 2)]
    for generator in (0, 1):
        assert together.claim([generator], 9) == alone.claim([generator], 9)
    assert together.check() == []


def test_groups_opened_together_take_what_room_there_is_and_wait_for_the_rest(new_ring):
    ring = new_ring(slots=4, max_times_sampled=1)
    open_plain(ring, 0)
    render(ring)
    draw = ring.draw(DrawRequest(0, 1, 0), 0.0)
    open_at_first_wait = []

    def stop() -> bool:  # called while the second one waits
        if not open_at_first_wait:
            open_at_first_wait.append(ring.stats().groups["plain"]["open"])
            ring.release(draw)
        return False

    assert len(ring.open_groups([request(1), request(2)], 60.0, stop)) == 2
    assert open_at_first_wait == [1]
    assert ring.stats().groups_opened == 3
    assert ring.check() == []


@pytest.mark.parametrize(
    ("limits", "opened"),
    [
        ({"max_open": 2}, 2),
        ({"samples_per_insert": 1.0, "error_buffer": 2.0, "min_fill": 1}, 3),  # 3 - 0 drawn <= 1 + 2
        ({"max_backlog": 4}, 4),
    ],
)
def test_groups_opened_together_respect_the_limits_of_each(new_ring, limits, opened):
    ring = new_ring(**limits)
    with pytest.raises(RingTimeout):
        ring.open_groups([request(task) for task in range(5)], 0.0)
    assert ring.stats().groups_opened == opened


def test_one_caption_too_long_opens_none_of_the_others(new_ring):
    ring = new_ring()
    long = GroupRequest(1, Kind.PLAIN, "x" * 33, None, [Member(0, 0, 0)])
    with pytest.raises(CaptionTooLong):
        ring.open_groups([request(0), long], 0.0)
    assert ring.stats().groups_opened == 0
    assert ring.stats().captions_rejected == 1
