"""The process group of a trainer: its ranks, and this process's position among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread

import torch
import torch.distributed as dist

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import config_hash
from polygen_stream.config import RunConfig
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.step_barrier import StepBarrier, build_step_barrier, no_barrier

HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class RankGroup:
    """The ranks of a trainer, seen from one of them.

    The collectives of a step use torch's default process group: gloo on CPUs, NCCL on GPUs.

    Args:
        rank: number of this process among all.
        world_size: number of processes, over all nodes.
        local_rank: number of this process on its node.
        local_world_size: number of processes on each node; those of a node share its ring.
        step_barrier: vote before a step; over gloo on any device, because its result is needed on the host.
        device: this process's training device.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    step_barrier: StepBarrier
    device: torch.device

    @property
    def is_leader(self) -> bool:
        """Whether this process draws for its node, and writes the checkpoints, metrics and draw log there."""
        return self.local_rank == 0

    def agree_on_step(self, config: RunConfig, step: int) -> int:
        """Return the lowest step that a rank gives: all can continue from it.

        Args:
            config: has to be the same on all ranks.
            step: of this rank's newest checkpoint.

        Raises:
            UserError: another node has another config.
        """
        if self.world_size == 1:
            return step
        local = [int(config_hash(config), 16) >> 1, step]
        local_values = torch.tensor(local, device=self.device)  # int64 [2]
        gathered = [torch.empty_like(local_values) for _ in range(self.world_size)]
        with reporting_lost_ranks(f"rank {self.rank} was asking the others where to begin"):
            dist.all_gather(gathered, local_values)
        values: list[list[int]] = [other.tolist() for other in gathered]  # [world_size, 2]
        for rank, (other_hash, _) in enumerate(values):
            if other_hash != local[0]:
                raise UserError(
                    f"rank {rank} (node {rank // self.local_world_size}) trains by another config than rank "
                    f"{self.rank} (node {self.rank // self.local_world_size}): hash {other_hash:x} against "
                    f"{local[0]:x}; start every node with the same config, seed and overrides"
                )
        return min(step for _, step in values)


def rank_from_environment(world_size: int) -> tuple[int, int]:
    """Return rank and local rank of this process, from the environment variables that torchrun sets as well.

    Args:
        world_size: number of processes that the config asks for.

    Raises:
        UserError: a variable is missing, or WORLD_SIZE differs.
    """
    if world_size == 1:
        return 0, 0
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(
            f"there are {world_size} ranks, but {', '.join(missing)} is not set: `polygen-stream run` starts them "
            "with it"
        )
    rank, local_rank, started = (int(os.environ[name]) for name in names[:3])
    if started != world_size:
        raise UserError(
            f"train.ranks x launch.nodes = {world_size}, but WORLD_SIZE is {started}: start as many processes as the "
            "config says"
        )
    return rank, local_rank


def join_ranks(config: RunConfig, device: torch.device, heartbeat: Callable[[str], None]) -> RankGroup:
    """Initialise the process group and return when all ranks are in it.

    Args:
        config: says how many ranks there are.
        device: this rank's training device, which no other rank uses.
        heartbeat: called with what this process is doing while it waits.

    Raises:
        UserError: the environment variables are missing or contradict the config.
        RankLost: a rank ended before all had joined.
    """
    local_world_size = config.train.ranks
    world_size = local_world_size * config.launch.nodes
    rank, local_rank = rank_from_environment(world_size)
    if world_size == 1:
        return RankGroup(rank, world_size, local_rank, local_world_size, no_barrier, device)
    # A rank waits at the step barrier while rank 0 waits for a batch or writes a checkpoint. A rank that hangs instead
    # is found by the supervisor after launch.hang_timeout_s; this limit is for ranks that were started without one.
    timeout = timedelta(seconds=config.ring.draw_timeout_s + 2 * config.launch.hang_timeout_s)
    doing = f"waiting for the other {world_size - 1} ranks to start"
    with reporting_lost_ranks(f"rank {rank} was joining the others"), _heartbeats(heartbeat, doing):
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device, timeout=timeout)
        else:
            dist.init_process_group("gloo", timeout=timeout)
        barrier_group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(barrier_group, dist.ProcessGroup), "every rank is a member of the group of all ranks"
    barrier = build_step_barrier(barrier_group, heartbeat)
    return RankGroup(rank, world_size, local_rank, local_world_size, barrier, device)


@contextmanager
def _heartbeats(heartbeat: Callable[[str], None], doing: str) -> Iterator[None]:
    """Send a heartbeat every second while this thread is inside a call that cannot."""
    over = Event()

    def keep_on() -> None:
        while not over.wait(HEARTBEAT_S):
            heartbeat(doing)

    thread = Thread(target=keep_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def leave_ranks(ranks: RankGroup) -> None:
    """Leave the process group at the end of a run. A rank that fails does without."""
    if ranks.world_size > 1:
        dist.destroy_process_group()
