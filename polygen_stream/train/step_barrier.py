"""The step barrier: before every step all ranks vote, and either all take the step or none does.

A rank that waits for a batch, or stops, must not leave the others inside a collective of the step: on a GPU that ends
minutes later in a timeout that does not say which rank was missing. So every rank votes before the first collective,
and one MIN over 8 bytes decides, on the host: the lowest vote wins, and the number of the rank is part of the vote.
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
    """A rank's vote on a step. The lowest one decides."""

    FAILED = 0  # it has no batch
    STOPPING = 1  # it was asked to stop
    READY = 2


# (step, own vote) -> the deciding vote, and the first rank that gave it
StepBarrier = Callable[[int, Readiness], tuple[Readiness, int]]


def no_barrier(_step: int, vote: Readiness) -> tuple[Readiness, int]:
    """Return the vote of a single process, which decides."""
    return vote, 0


def build_step_barrier(group: dist.ProcessGroup, heartbeat: Callable[[str], None]) -> StepBarrier:
    """Build the barrier of several ranks.

    Args:
        group: a gloo group of all ranks.
        heartbeat: called with what this rank is doing while others are missing. They may wait for the ring as long as
            its deadline allows; a rank that hangs is found by its missing heartbeats. So the only deadline here is that
            of the group.
    """
    rank, world_size = dist.get_rank(group), dist.get_world_size(group)

    def step_barrier(step: int, vote: Readiness) -> tuple[Readiness, int]:
        ballot = torch.tensor(vote * world_size + rank)  # int64 []
        doing = f"waiting for the other ranks before step {step}"
        with reporting_lost_ranks(f"rank {rank} was waiting for the others before step {step}"):
            work = dist.all_reduce(ballot, op=dist.ReduceOp.MIN, group=group, async_op=True)
            assert work is not None, "this rank is a member of the group"
            wait_for(lambda: work.is_completed() or None, math.inf, lambda: heartbeat(doing), None)
            work.wait()  # returns at once, or raises what went wrong
        lowest, deciding_rank = divmod(int(ballot), world_size)
        return Readiness(lowest), deciding_rank

    return step_barrier
