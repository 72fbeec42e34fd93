"""The process group of a trainer: its ranks, and this process's position among them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from polygen_stream.base.errors import PolygenError, RankLost, UserError
from polygen_stream.base.seeding import key
from polygen_stream.config import RunConfig, settings
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.step_barrier import StepBarrier, build_step_barrier, no_barrier

HEARTBEAT_S = 1.0
JOIN_LIMIT_S = 600.0  # for all ranks to meet, and again to connect: nodes start together, and imports take a minute


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
        local = [_hash(config), step]
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


def _hash(config: RunConfig) -> int:
    """Hash what ranks have to have in common to train together: what a run trains, and how it takes a step."""
    common = settings(config) | config.train.model_dump(exclude={"model", "device"})
    return key(json.dumps(common | {"launch.node": None}, sort_keys=True)) >> 1


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


def join_ranks(
    config: RunConfig,
    device: torch.device,
    heartbeat: Callable[[str], None],
    barrier_heartbeat: Callable[[str], None] | None = None,
) -> RankGroup:
    """Initialise the process group and return when all ranks are in it.

    Args:
        config: says how many ranks there are.
        device: this rank's training device, which no other rank uses.
        heartbeat: called with what this process is doing while it waits.
        barrier_heartbeat: the same at the step barrier; None = `heartbeat`.

    Raises:
        UserError: the environment variables are missing or contradict the config.
        PolygenError: rank 0 cannot listen where the ranks meet.
        RankLost: a rank ended before all had joined, or some did not come, or cannot be reached.
    """
    local_world_size = config.train.ranks
    world_size = local_world_size * config.launch.nodes
    rank, local_rank = rank_from_environment(world_size)
    if world_size == 1:
        return RankGroup(rank, world_size, local_rank, local_world_size, no_barrier, device)
    doing = f"waiting for the other {world_size - 1} ranks to start"
    with _heartbeats(heartbeat, doing, 2 * JOIN_LIMIT_S):
        store = _meet(rank, world_size)
        connected = _connect(store, rank, world_size)
    # A rank waits at the step barrier while rank 0 waits for a batch or writes a checkpoint. A rank that hangs instead
    # is found by the supervisor after launch.hang_timeout_s; this limit is for ranks that were started without one.
    timeout = timedelta(seconds=config.ring.draw_timeout_s + 2 * config.launch.hang_timeout_s)
    # Heartbeats end here too, for NCCL has no limit of its own: then the supervisor finds the rank.
    with reporting_lost_ranks(f"rank {rank} was joining the others"), _heartbeats(heartbeat, doing, JOIN_LIMIT_S):
        place: dict[str, Any] = {"store": store, "rank": rank, "world_size": world_size, "timeout": timeout}
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device, **place)
        else:
            dist.init_process_group("gloo", **place)
        barrier_group = dist.new_group(backend="gloo", timeout=timeout)
        del connected  # all ranks have got over it: they are in a later group
    assert isinstance(barrier_group, dist.ProcessGroup), "every rank is a member of the group of all ranks"
    barrier = build_step_barrier(barrier_group, barrier_heartbeat or heartbeat)
    return RankGroup(rank, world_size, local_rank, local_world_size, barrier, device)


def _meet(rank: int, world_size: int) -> Store:
    """Return the store of all ranks, which rank 0 serves, once every rank is at it.

    Raises:
        PolygenError: rank 0 cannot serve it, because another process uses the port.
        RankLost: they are not within JOIN_LIMIT_S.
    """
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_LIMIT_S)))
    except dist.DistError as problem:
        if "EADDRINUSE" in str(problem):
            raise PolygenError(
                f"rank 0 cannot listen at {place}, which another process uses: give another port in --rendezvous"
            ) from problem
        raise RankLost(
            f"rank {rank} waited {JOIN_LIMIT_S / 60:.0f} minutes at {place} for all {world_size} ranks, in vain "
            f"({_first_line(problem)}): start every node, each with the same --rendezvous, an address and open port of "
            "node 0 that all of them reach"
        ) from problem
    return store


def _connect(store: Store, rank: int, world_size: int) -> object:
    """Connect every pair of ranks over gloo, to learn within JOIN_LIMIT_S whether they can.

    The groups of the run are made afterwards, with a limit that is right for the longest step.

    Returns:
        The connections, which close with it.

    Raises:
        RankLost: they cannot.
    """
    try:
        limit = timedelta(seconds=JOIN_LIMIT_S)
        return dist.ProcessGroupGloo(PrefixStore("connect", store), rank, world_size, limit)
    except RuntimeError as problem:  # gloo has no type of its own
        chosen = os.environ.get("GLOO_SOCKET_IFNAME") or "the interface of this machine's name"
        raise RankLost(
            f"rank {rank} met the other ranks and cannot connect to them by {chosen} ({_first_line(problem)}): if no "
            "other rank has ended, set GLOO_SOCKET_IFNAME, and NCCL_SOCKET_IFNAME if train.device is a GPU, on every "
            "node to the network interface that reaches the other nodes (ip -br address)"
        ) from problem


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]


@contextmanager
def _heartbeats(heartbeat: Callable[[str], None], doing: str, limit_s: float) -> Iterator[None]:
    """Send a heartbeat every second, for `limit_s` at most, while this thread is inside a call that cannot."""
    over, until = Event(), time.monotonic() + limit_s

    def keep_on() -> None:
        while not over.wait(HEARTBEAT_S) and time.monotonic() < until:
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
