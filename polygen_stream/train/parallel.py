"""The forward pass of a step, on one process or on ranks with shared gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.train.batch_norm import share_batch_norms
from polygen_stream.train.lost_ranks import reporting_lost_ranks

# Image features [N, D], text features [T, D], logit scale (exponentiated), image-image features [N, P] or None.
Encoded = tuple[Tensor, Tensor, Tensor, Tensor | None]


class ClipTowers(torch.nn.Module):
    """A CLIP's whole forward pass as one call, which is what DistributedDataParallel prepares a backward pass by."""

    def __init__(self, clip: torch.nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, tokens: Tensor) -> Encoded:
        """From images [N, 3, S, S] and tokens [T, context length]; features are L2-normalised."""
        image_features = self.clip.encode_image(images, normalize=True)
        text_features = self.clip.encode_text(tokens, normalize=True)
        return image_features, text_features, self.clip.logit_scale.exp(), head_features(self.clip, image_features)


def head_features(clip: torch.nn.Module, image_features: Tensor) -> Tensor | None:
    """What the image-image term compares, [N, P], if the model has a head for it."""
    head = getattr(clip, "image_image_head", None)
    return None if head is None else normalize(head(image_features), dim=-1)


def distribute(clip: torch.nn.Module, device: torch.device) -> DistributedDataParallel:
    """The model's towers as a part of the default process group, with the weights of rank 0.

    The CLIP itself is changed: its batch norms are those of all ranks (batch_norm.py).
    """
    towers = ClipTowers(share_batch_norms(clip, device))
    devices = [device.index] if device.type == "cuda" else None
    with reporting_lost_ranks("the ranks were to get the weights of rank 0"):
        # Buffers are statistics of batch norms, which come out equal on every rank.
        return DistributedDataParallel(towers, device_ids=devices, broadcast_buffers=False)


def average_gradients(clip: torch.nn.Module, group: dist.ProcessGroup) -> None:
    """What DistributedDataParallel does in a backward pass, after a backward pass in several pieces."""
    world = dist.get_world_size(group)
    for parameter in clip.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(world), group=group)
