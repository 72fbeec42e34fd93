"""The ranks of one trainer: who this process is among them, and the process groups they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from polygen_stream.config import RunConfig
from polygen_stream.errors import UserError
from polygen_stream.train.gate import Gate, gate_of, open_gate
from polygen_stream.train.peers import naming_lost_peers


@dataclass(frozen=True)
class Gang:
    """This process's place.

    Args:
        rank, world: which of how many.
        group: of the collectives of a step, gloo on CPUs and NCCL on GPUs; None for a single process.
        gate: what the ranks agree by before a step; gloo, because it decides on the host.
    """

    rank: int
    world: int
    group: dist.ProcessGroup | None
    gate: Gate

    @property
    def leads(self) -> bool:
        """Whether this process draws for all, and writes checkpoints, metrics and the draw log."""
        return self.rank == 0


ALONE = Gang(rank=0, world=1, group=None, gate=open_gate)


def place(ranks: int) -> tuple[int, int]:
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
            f"train.ranks = {ranks}, but {', '.join(missing)} is not set: `polygen-stream run` starts the ranks with it"
        )
    rank, local_rank, world = (int(os.environ[name]) for name in names[:3])
    if world != ranks:
        raise UserError(
            f"train.ranks = {ranks}, but WORLD_SIZE is {world}: start as many processes as train.ranks says"
        )
    return rank, local_rank


def join(config: RunConfig, device: torch.device, beat: Callable[[str], None]) -> Gang:
    """Meets the other ranks; `device` is this one's alone. Returns when all are there."""
    ranks = config.train.ranks
    if ranks == 1:
        return ALONE
    rank, _ = place(ranks)
    # A rank waits at the gate while rank 0 waits for a batch or writes a checkpoint. Who hangs instead is found by the
    # supervisor after launch.hang_timeout_s; this limit is for ranks that were started without one.
    patience = timedelta(seconds=config.ring.draw_timeout_s + 2 * config.launch.hang_timeout_s)
    with naming_lost_peers(f"rank {rank} was meeting the others"):
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        gate = dist.new_group(backend="gloo", timeout=patience)
    return Gang(rank, ranks, dist.group.WORLD, gate_of(gate, beat))


def leave(gang: Gang) -> None:
    """At the end of a run; a rank that fails just goes."""
    if gang.world > 1:
        dist.destroy_process_group()
