"""The ranks of one trainer: who this process is among them, and the process groups they share."""

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
from polygen_stream.train.step_barrier import StepBarrier, no_barrier, step_barrier_of


@dataclass(frozen=True)
class RankGroup:
    """This process's place.

    Args:
        rank, world: which of how many, over all nodes.
        local_rank, local_world: which of how many on this node; they share its ring.
        group: of the collectives of a step, gloo on CPUs and NCCL on GPUs; None for a single process.
        gate: what the ranks agree by before a step; gloo, because it decides on the host.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    group: dist.ProcessGroup | None
    gate: StepBarrier
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process draws for its node, and writes the checkpoints, metrics and draw log there."""
        return self.local_rank == 0

    def agreed_step(self, config: RunConfig, step: int) -> int:
        """The step that all ranks can go on from, each giving that of its newest checkpoint.

        Raises:
            UserError: another node has another config.
        """
        if self.world == 1:
            return step
        hashes = [int(config_hash(config), 16) >> 1, step]
        mine = torch.tensor(hashes, device=self.device)
        found = [torch.empty_like(mine) for _ in range(self.world)]
        with reporting_lost_ranks(f"rank {self.rank} was asking the others where to begin"):
            dist.all_gather(found, mine)
        for rank, (theirs, _) in enumerate(torch.stack(found).tolist()):
            if theirs != hashes[0]:
                raise UserError(
                    f"rank {rank} (node {rank // self.local_world}) trains by another config than rank {self.rank} "
                    f"(node {self.rank // self.local_world}): hash {theirs:x} against {hashes[0]:x}; start every node "
                    "with the same config, seed and overrides"
                )
        return min(step for _, step in torch.stack(found).tolist())


def rank_from_environment(ranks: int) -> tuple[int, int]:
    """Rank and local rank of this process among `ranks`, from the environment that torchrun sets as well.

    Raises:
        UserError: the environment does not say, or counts other processes.
    """
    if ranks == 1:
        return 0, 0
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(
            f"there are {ranks} ranks, but {', '.join(missing)} is not set: `polygen-stream run` starts them with it"
        )
    rank, local_rank, world = (int(os.environ[name]) for name in names[:3])
    if world != ranks:
        raise UserError(
            f"train.ranks x launch.nodes = {ranks}, but WORLD_SIZE is {world}: start as many processes as these say"
        )
    return rank, local_rank


def join_ranks(config: RunConfig, device: torch.device, beat: Callable[[str], None]) -> RankGroup:
    """Meets the other ranks; `device` is this one's alone. Returns when all are there."""
    local_world = config.train.ranks
    world = local_world * config.launch.nodes
    rank, local_rank = rank_from_environment(world)
    if world == 1:
        return RankGroup(rank, world, local_rank, local_world, None, no_barrier, device)
    # A rank waits at the gate while rank 0 waits for a batch or writes a checkpoint. Who hangs instead is found by the
    # supervisor after launch.hang_timeout_s; this limit is for ranks that were started without one.
    patience = timedelta(seconds=config.ring.draw_timeout_s + 2 * config.launch.hang_timeout_s)
    doing = f"waiting for the other {world - 1} ranks to start"
    with reporting_lost_ranks(f"rank {rank} was meeting the others"), _beating(beat, doing):
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device, timeout=patience)
        else:
            dist.init_process_group("gloo", timeout=patience)
        gate = dist.new_group(backend="gloo", timeout=patience)
    return RankGroup(rank, world, local_rank, local_world, dist.group.WORLD, step_barrier_of(gate, beat), device)


@contextmanager
def _beating(beat: Callable[[str], None], doing: str) -> Iterator[None]:
    """Beats once a second while this thread is inside a call that cannot."""
    over = Event()

    def keep_on() -> None:
        while not over.wait(1.0):
            beat(doing)

    thread = Thread(target=keep_on, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def leave_ranks(gang: RankGroup) -> None:
    """At the end of a run; a rank that fails just goes."""
    if gang.world > 1:
        dist.destroy_process_group()
