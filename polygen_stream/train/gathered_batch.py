"""The gathered batch: images and texts of all ranks, against which each rank contrasts its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from polygen_stream.train.chunked_cross_entropy import PADDING
from polygen_stream.train.staging import copy_to_device
from polygen_stream.train.text_image_index import TextImageIndex

# torch 2.14 has new names for both, and warns of the old ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass(frozen=True)
class GatheredBatch:
    """Features and labels of M images and U texts, padding included: those of one rank, or of all.

    A polarity is 0 for I+ and T+, 1 for I- and T-, and PADDING for padding.

    Args:
        images: float [M, D], image features.
        image_caption: int64 [M], caption id of each image's text.
        image_polarity: int64 [M].
        texts: float [U, D], text features.
        text_caption: int64 [U], caption id of each text.
        text_polarity: int64 [U].
        image_offset: index in `images` of this rank's first image; its other images follow.
        image_counts: number of I+ and of I- in the whole batch.
        text_counts: number of T+ and of T- in the whole batch.
    """

    images: Tensor
    image_caption: Tensor
    image_polarity: Tensor
    texts: Tensor
    text_caption: Tensor
    text_polarity: Tensor
    image_offset: int
    image_counts: tuple[int, int]
    text_counts: tuple[int, int]


def local_batch(images: Tensor, texts: Tensor, index: TextImageIndex) -> GatheredBatch:
    """Return a rank's own batch, from its image features [N, D] and text features [T, D]."""
    text_polarity = index.text_negative.long()
    return GatheredBatch(
        images,
        index.text_caption[index.image_text],
        text_polarity[index.image_text],
        texts,
        index.text_caption,
        text_polarity,
        image_offset=0,
        image_counts=(index.positive_images, index.negative_images),
        text_counts=(index.positives, index.negatives),
    )


def gather_batch(local: GatheredBatch, group: dist.ProcessGroup) -> GatheredBatch:
    """Gather the local batches of all ranks, which may hold different numbers of images and texts.

    Each rank is padded to the largest one; padding is no row's candidate. Features are gathered with their gradient: a
    rank receives what the rows of all ranks contribute to its images and texts. The sizes are copied to the host, the
    one place where a step waits for the device.
    """
    sizes = copy_to_device(torch.tensor([*local.image_counts, *local.text_counts]), local.images.device)
    counts = all_gather(sizes, group).view(-1, 4).cpu()  # [world_size, 4]
    world_size = counts.shape[0]
    max_images, max_texts = int(counts[:, :2].sum(1).max()), int(counts[:, 2:].sum(1).max())
    image_labels = torch.stack([local.image_caption, local.image_polarity], dim=1)  # [N, 2]
    text_labels = torch.stack([local.text_caption, local.text_polarity], dim=1)  # [T, 2]
    labels = all_gather(
        torch.cat([_pad(image_labels, max_images, PADDING), _pad(text_labels, max_texts, PADDING)]), group
    ).view(world_size, -1, 2)  # [world_size, max_images + max_texts, 2]
    image_caption, image_polarity = labels[:, :max_images].flatten(0, 1).unbind(1)  # [M] each
    text_caption, text_polarity = labels[:, max_images:].flatten(0, 1).unbind(1)  # [U] each
    # One collective for both kinds of features, so that the backward pass has one and no order of two to agree on.
    features = gather_with_gradient(
        torch.cat([_pad(local.images, max_images, 0), _pad(local.texts, max_texts, 0)]), group
    ).view(world_size, max_images + max_texts, -1)
    positive_images, negative_images, positives, negatives = map(int, counts.sum(dim=0).tolist())
    return GatheredBatch(
        features[:, :max_images].flatten(0, 1),
        image_caption,
        image_polarity,
        features[:, max_images:].flatten(0, 1),
        text_caption,
        text_polarity,
        image_offset=dist.get_rank(group) * max_images,
        image_counts=(positive_images, negative_images),
        text_counts=(positives, negatives),
    )


def gather_images(features: Tensor, gathered: GatheredBatch, group: dist.ProcessGroup) -> Tensor:
    """Gather further image features [N, P] in the order of `gathered.images`: [M, P]."""
    max_images = len(gathered.images) // dist.get_world_size(group)
    return gather_with_gradient(_pad(features, max_images, 0), group)


def all_gather(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Concatenate [n, ...] of every rank, in the order of ranks: [world_size * n, ...]. n is the same on all ranks."""
    gathered = tensor.new_empty(dist.get_world_size(group) * len(tensor), *tensor.shape[1:])
    _all_gather(gathered, tensor.contiguous(), group=group)
    return gathered


def gather_with_gradient(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """`all_gather` whose gradient is summed over the ranks. torch has the same under names that change."""
    return _GatherWithGradient.apply(tensor, group)


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_gather(tensor, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        [gradient] = grad_outputs
        local = gradient.new_empty(len(gradient) // dist.get_world_size(ctx.group), *gradient.shape[1:])
        _reduce_scatter(local, gradient.contiguous(), group=ctx.group)
        return local, None


def _pad(tensor: Tensor, length: int, value: int) -> Tensor:
    missing = length - len(tensor)
    return torch.cat([tensor, tensor.new_full((missing, *tensor.shape[1:]), value)])
