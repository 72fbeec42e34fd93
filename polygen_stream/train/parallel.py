"""Data parallelism: a CLIP on several ranks that average their gradients."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _compute_bucket_assignment_by_size
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.train.batch_norm import synchronize_batch_norms
from polygen_stream.train.forward import ClipTowers
from polygen_stream.train.lost_ranks import reporting_lost_ranks
from polygen_stream.train.model import ClipModel

BUCKET_BYTES = 25 * 2**20  # DistributedDataParallel's own

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
    """Average gradients over the ranks, as DistributedDataParallel does in a backward pass of one piece.

    They are sent in buckets of BUCKET_BYTES and one type each, one after the other: there is never more than one bucket
    in memory besides them.
    """
    gradients = [parameter.grad for parameter in clip.parameters() if parameter.grad is not None]
    buckets, _ = _compute_bucket_assignment_by_size(gradients, [BUCKET_BYTES])
    for indices in buckets:
        bucket = [gradients[index] for index in indices]
        flat = _flatten_dense_tensors(bucket).div_(dist.get_world_size(group))
        dist.all_reduce(flat, group=group)
        for gradient, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            gradient.copy_(mean)
