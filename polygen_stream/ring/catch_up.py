"""Groups that came late catch up: which of them a draw takes out of turn (RingSpec.catch_up > 1).

In rounds alone a group that comes when half of the rounds are over is drawn half as often as the first ones. So a part
of each batch is drawn out of turn, from groups that are behind, and these keep their place in the round (picking.py).

All draws of the run, shared evenly by the groups of a kind, those still expected included, are F draws each, as if the
rest of the steps asked for as many groups of the kind as this one. Of a group that was drawn t times and has r rounds
behind it, F - t draws are owed, and F - r of one that missed none. It is therefore to be drawn w = (F - t) / (F - r)
times a round, at least once and at most `catch_up` times. With E the mean of w - 1, E / (1 + E) of a batch is out of
turn. Groups that are behind and a share f of their kind are thus expected to be c f / (1 + (c - 1) f) of any batch at
the most, with c = catch_up. Were they drawn again within the round instead, its last batches would be of them alone.
"""

from __future__ import annotations

import math

import numpy as np

from polygen_stream.base.seeding import key, mixed
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import Total
from polygen_stream.ring.limiter import RateLimiter
from polygen_stream.ring.records import DrawRequest, GroupState, Kind
from polygen_stream.ring.sampler import NO_ROWS

_SAMPLE = 2048  # groups looked at one by one, or 4 for each that is drawn: a draw holds the ring's mutex


def out_of_turn(control: Control, request: DrawRequest) -> np.ndarray:
    """Return the rows of groups that a draw takes before others of their kind, int64 [n].

    A function of (seed, step) and of which groups are there with how many draws. There are none with catch_up = 1, or
    where the request does not say how many steps are left.

    Args:
        control: the ring, in the caller's transition.
        request: the draw.
    """
    if control.spec.catch_up == 1 or request.steps_left is None or request.other_sides:
        return NO_ROWS
    c = control.columns
    completed, samples = control.total(Total.COMPLETED), control.total(Total.SAMPLES)
    finished = bool(control.total(Total.FINISHED))
    if not RateLimiter.read(c).may_sample(completed, samples, request.groups, finished):
        return NO_ROWS  # it waits, and asks again and again
    complete = c.group_state == GroupState.COMPLETE
    # After a resumption those without images are rendered again; their draws count.
    there = complete | ((c.group_state == GroupState.OPEN) & (c.group_times > 0))
    to_come = max(1.0, control.spec.expected_groups / max(1, np.count_nonzero(there)))  # times as many as are there
    chosen = [NO_ROWS]
    for kind, count in ((Kind.PLAIN, request.plain), (Kind.PAIR, request.pair)):
        mine = c.group_kind == kind
        known = there & mine
        number = np.count_nonzero(known)
        if count and number:  # the ring may be empty yet, or have pairs alone, which do for PLAIN too
            share = (c.group_times @ known + count * (request.steps_left + 1)) / (number * to_come)
            chosen.append(_late(control, request.step, complete & mine, count, share))
    return np.concatenate(chosen)


def _late(control: Control, step: int, among: np.ndarray, count: int, share: float) -> np.ndarray:
    """Return the rows that are drawn out of turn, int64 [n].

    Args:
        control: the ring.
        step: of the draw.
        among: the complete groups of one kind, bool [groups].
        count: groups of the kind in the batch.
        share: draws of each group of the kind by the end, if all have as many.
    """
    seed, c = control.spec.seed, control.columns
    rows = _sample(c.group_task, among, max(_SAMPLE, 4 * count), key("ring.catch_up", seed, step))
    if not rows.size:
        return NO_ROWS
    owed, of_others = share - c.group_times[rows], share - c.group_round[rows]
    too_far = of_others * control.spec.catch_up <= owed
    times_a_round = np.where(too_far, control.spec.catch_up, owed / np.maximum(of_others, 1e-9))
    extra = np.where(owed > 0, np.maximum(times_a_round, 1) - 1, 0)
    late = np.flatnonzero(extra)
    expected = count * extra.mean() / (1 + extra.mean())
    number = min(late.size, math.floor(expected + key("ring.fraction", seed, step, count) / 2**64))
    if not number:
        return NO_ROWS
    # The smallest of u / weight: the larger the weight, the likelier.
    scores = mixed(c.group_task[rows[late]], key("ring.out of turn", seed, step)) / extra[late]
    return rows[late[np.argpartition(scores, number - 1)[:number]]]


def _sample(tasks: np.ndarray, among: np.ndarray, size: int, offset: int) -> np.ndarray:
    """Return the rows of `among` (a mask), or every 2nd, 4th, ... task of it, about `size` to 2 * size of them."""
    stride = 1
    while np.count_nonzero(among) >= 2 * size * stride:
        stride *= 2
    return np.flatnonzero(among if stride == 1 else among & ((tasks & (stride - 1)) == offset % stride))
