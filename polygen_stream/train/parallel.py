"""Data parallelism: a CLIP on several ranks that average their gradients."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.train.batch_norm import synchronize_batch_norms
from polygen_stream.train.forward import ClipTowers
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.model import ClipModel

# Buffers are statistics of batch norms, which come out equal on every rank: no step sends them.
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.14
_BUFFERS_STAY: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


def wrap_in_ddp(clip: ClipModel, device: torch.device) -> DistributedDataParallel:
    """Return the model's towers with gradients averaged over the default process group, and the weights of rank 0.

    The CLIP itself is changed: its batch norms become those of all ranks (batch_norm.py).

    Raises:
        UserError: a batch norm of the model cannot be shared by ranks.
        RankLost: another rank is gone.
    """
    synchronize_batch_norms(clip, device)
    devices = [device.index] if device.type == "cuda" else None
    with reporting_lost_ranks("the ranks were to get the weights of rank 0"):
        return DistributedDataParallel(ClipTowers(clip), device_ids=devices, **_BUFFERS_STAY)


def average_gradients(clip: ClipModel, group: dist.ProcessGroup) -> None:
    """Average gradients over the ranks, as DistributedDataParallel does in a backward pass of one piece."""
    world_size = dist.get_world_size(group)
    for parameter in clip.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(world_size), group=group)
