"""The forward pass of a CLIP on a batch: in one piece, or in micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from polygen_stream.train.grad_cache import CachedFeatures
from polygen_stream.train.model import ClipModel


class ClipOutput(NamedTuple):
    """What the losses are computed from. Features are L2-normalised.

    Args:
        image_features: [N, D].
        text_features: [T, D].
        logit_scale: [], already exponentiated.
        image_image_features: [N, P], what the image-image term compares, if the model has a head for it.
    """

    image_features: Tensor
    text_features: Tensor
    logit_scale: Tensor
    image_image_features: Tensor | None


class ClipTowers(torch.nn.Module):
    """The whole forward pass of a CLIP as one call, which DistributedDataParallel needs to prepare a backward pass."""

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, tokens: Tensor) -> ClipOutput:
        """Encode images [N, 3, S, S] and tokens [T, context length]."""
        image_features = self.clip.encode_image(images, normalize=True)
        text_features = self.clip.encode_text(tokens, normalize=True)
        image_image_features = project_images(self.clip, image_features)
        return ClipOutput(image_features, text_features, self.clip.logit_scale.exp(), image_image_features)


def project_images(clip: ClipModel, image_features: Tensor) -> Tensor | None:
    """Return what the image-image term compares, [N, P], if the model has a head for it."""
    head = getattr(clip, "image_image_head", None)
    return None if head is None else normalize(head(image_features), dim=-1)


def forward_in_micro_batches(
    model: ClipModel,
    images: Tensor,
    tokens: Tensor,
    accum_freq: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[ClipOutput, list[CachedFeatures]]:
    """Encode a batch in `accum_freq` micro-batches without a graph.

    Args:
        model: the CLIP.
        images: [N, 3, S, S].
        tokens: int64 [T, context length].
        accum_freq: number of micro-batches.
        autocast: gives the context of floating-point precision to encode in.

    Returns:
        The features, and the caches whose `backward` is to be called after that of the loss.
    """

    def encode_image(images: Tensor) -> Tensor:
        with autocast():
            return model.encode_image(images, normalize=True)

    def encode_text(tokens: Tensor) -> Tensor:
        with autocast():
            return model.encode_text(tokens, normalize=True)

    image_cache = CachedFeatures(encode_image, images, accum_freq)
    text_cache = CachedFeatures(encode_text, tokens, accum_freq)
    logit_scale = model.logit_scale.exp()
    with autocast():
        image_image_features = project_images(model, image_cache.features)
    output = ClipOutput(image_cache.features, text_cache.features, logit_scale, image_image_features)
    return output, [image_cache, text_cache]
