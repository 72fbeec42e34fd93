"""What the rows of a rank are contrasted with: the images and texts of the whole batch, on whichever rank they lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from polygen_stream.train.chunked_cross_entropy import ABSENT
from polygen_stream.train.text_image_index import TextImageIndex


@dataclass(frozen=True)
class GatheredBatch:
    """M images and U texts, padding included. `side` is 0 for I+ and T+, 1 for I- and T-, ABSENT for padding.

    Args:
        images: float [M, D].
        image_caption, image_side: int64 [M].
        texts: float [U, D].
        text_caption, text_side: int64 [U].
        own_image: index of this rank's first image; its others follow.
        image_counts: I+ and I- of the whole batch.
        text_counts: T+ and T- of the whole batch.
    """

    images: Tensor
    image_caption: Tensor
    image_side: Tensor
    texts: Tensor
    text_caption: Tensor
    text_side: Tensor
    own_image: int
    image_counts: tuple[int, int]
    text_counts: tuple[int, int]


def local_batch(images: Tensor, texts: Tensor, layout: TextImageIndex) -> GatheredBatch:
    """The columns of a rank's own batch: images [N, D] and texts [T, D]."""
    text_side = layout.text_negative.long()
    return GatheredBatch(
        images,
        layout.text_caption[layout.image_text],
        text_side[layout.image_text],
        texts,
        layout.text_caption,
        text_side,
        own_image=0,
        image_counts=(layout.positive_images, layout.negative_images),
        text_counts=(layout.positives, layout.negatives),
    )


def gather_batch(own: GatheredBatch, group: dist.ProcessGroup) -> GatheredBatch:
    """The columns of all ranks, from the own ones of each; ranks may hold different numbers of images and texts.

    Ranks are padded to the largest with columns that are nobody's candidates. Features are gathered with their
    gradient: a rank gets what the rows of all ranks say about its images and texts. The sizes come to the host, which
    is the one place where a step waits for the device.
    """
    sizes = torch.tensor([*own.image_counts, *own.text_counts], device=own.images.device)
    counts = all_gather(sizes, group).view(-1, 4)  # [world, 4]
    most_images, most_texts = counts[:, :2].sum(1).max().item(), counts[:, 2:].sum(1).max().item()
    image_labels = torch.stack([own.image_caption, own.image_side], dim=1)
    text_labels = torch.stack([own.text_caption, own.text_side], dim=1)
    labels = all_gather(
        torch.cat([_padded(image_labels, most_images, ABSENT), _padded(text_labels, most_texts, ABSENT)]), group
    ).view(len(counts), -1, 2)  # [world, most_images + most_texts, 2]
    # One collective for both, so that there is one in the backward pass and no order of them to agree on.
    features = gather_with_gradient(
        torch.cat([_padded(own.images, most_images, 0), _padded(own.texts, most_texts, 0)]), group
    ).view(len(counts), most_images + most_texts, -1)
    positive_images, negative_images, positives, negatives = counts.sum(dim=0).tolist()
    return GatheredBatch(
        features[:, :most_images].flatten(0, 1),
        *labels[:, :most_images].flatten(0, 1).unbind(1),
        features[:, most_images:].flatten(0, 1),
        *labels[:, most_images:].flatten(0, 1).unbind(1),
        own_image=dist.get_rank(group) * most_images,
        image_counts=(positive_images, negative_images),
        text_counts=(positives, negatives),
    )


def gather_images(features: Tensor, columns: GatheredBatch, group: dist.ProcessGroup) -> Tensor:
    """Further features of the images [N, P], gathered to stand as the images of `columns` do: [M, P]."""
    most_images = len(columns.images) // dist.get_world_size(group)
    return gather_with_gradient(_padded(features, most_images, 0), group)


def all_gather(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[n, ...] of every rank, one after the other: [world * n, ...]; n is the same everywhere."""
    gathered = tensor.new_empty(dist.get_world_size(group) * len(tensor), *tensor.shape[1:])
    dist.all_gather_into_tensor(gathered, tensor.contiguous(), group=group)
    return gathered


def gather_with_gradient(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """`all_gather` whose gradient is summed over the ranks. torch has the same under names that change."""
    return _Gather.apply(tensor, group)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_gather(tensor, group)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.new_empty(len(gradient) // dist.get_world_size(ctx.group), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), group=ctx.group)
        return own, None


def _padded(tensor: Tensor, count: int, value: int) -> Tensor:
    missing = count - len(tensor)
    return torch.cat([tensor, tensor.new_full((missing, *tensor.shape[1:]), value)])
