"""The gate before every step: all ranks go through it, or none does.

A rank that waits for a batch, or stops, must not leave the others inside a collective of the step: on a GPU that ends
minutes later in a timeout that names nobody. So before the first of them every rank votes, and one MIN over 8 bytes
decides, on the host: the lowest vote wins, and the number of who cast it is part of the vote.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum

import torch
import torch.distributed as dist

from polygen_stream.ring.waiting import wait_for
from polygen_stream.train.lost_ranks import reporting_lost_ranks


class Readiness(IntEnum):
    """What a rank says of a step; the lowest one decides."""

    FAILED = 0  # it has no batch
    STOPPING = 1  # it was told to stop
    READY = 2


# (step, own verdict) -> the verdict of all, and the first rank that gave it
StepBarrier = Callable[[int, Readiness], tuple[Readiness, int]]


def no_barrier(_step: int, verdict: Readiness) -> tuple[Readiness, int]:
    """The gate of a single process."""
    return verdict, 0


def step_barrier_of(group: dist.ProcessGroup, beat: Callable[[str], None]) -> StepBarrier:
    """The gate of a gloo group.

    Args:
        beat: called with what this rank is doing while others are missing. They may wait for the ring as long as they
            like; who is silent himself is found by that, so the only deadline here is that of the group.
    """
    rank, world = dist.get_rank(group), dist.get_world_size(group)

    def gate(step: int, verdict: Readiness) -> tuple[Readiness, int]:
        vote = torch.tensor(verdict * world + rank)
        doing = f"waiting for the other ranks before step {step}"
        with reporting_lost_ranks(f"rank {rank} was waiting for the others before step {step}"):
            work = dist.all_reduce(vote, op=dist.ReduceOp.MIN, group=group, async_op=True)
            wait_for(lambda: work.is_completed() or None, math.inf, lambda: beat(doing), None)
            work.wait()  # done, or what went wrong
        lowest, who = divmod(int(vote), world)
        return Readiness(lowest), who

    return gate
