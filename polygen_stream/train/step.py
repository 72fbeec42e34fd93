"""One optimizer step: augment, forward, loss, backward, clip, update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import RunConfig
from polygen_stream.train.augment import preprocess, random_downsample, random_resized_crop
from polygen_stream.train.data import TrainBatch
from polygen_stream.train.grad_cache import CachedFeatures
from polygen_stream.train.loss import multi_positive_loss
from polygen_stream.train.model import clamp_logit_scale, image_size
from polygen_stream.train.optim import learning_rate, set_learning_rate
from polygen_stream.train.parallel import ClipTowers, average_gradients, head_features
from polygen_stream.train.precision import autocast_dtype


@dataclass(frozen=True)
class StepResult:
    """What a step has to say for itself: about the whole batch, and the same on every rank.

    Args:
        logit_scale: exp of the parameter, after the clamp.
        grad_norm: before clipping.
        texts: T+ and T-.
        negatives: T- alone.
    """

    loss: float
    loss_parts: dict[str, float]
    lr: float
    grad_norm: float
    logit_scale: float
    images: int
    texts: int
    negatives: int


def train_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: TrainBatch,
    config: RunConfig,
    ranks: DistributedDataParallel | None = None,
) -> StepResult:
    """Train on one batch, or on this rank's share of it. The model must be in train mode.

    Args:
        ranks: the model as a part of several ranks, each of which calls this; None for a single process.

    Raises:
        PolygenError: the loss is not finite; the weights are left as they were.
    """
    train = config.train
    keys = {"seed": config.seed, "step": batch.step, "image_ids": batch.image_ids}
    images = preprocess(batch.images, batch.images.shape[1])  # [N, 3, H, H]
    if train.downsample_probability:
        images = random_downsample(images, probability=train.downsample_probability, **keys)
    images = random_resized_crop(images, image_size(model), scale_min=train.crop_scale_min, **keys)  # [N, 3, S, S]
    dtype = autocast_dtype(train.precision, images.device)
    autocast = partial(torch.autocast, images.device.type, dtype=dtype, enabled=dtype is not None)

    def encode_image(images: Tensor) -> Tensor:
        with autocast():
            return model.encode_image(images, normalize=True)

    def encode_text(tokens: Tensor) -> Tensor:
        with autocast():
            return model.encode_text(tokens, normalize=True)

    caches: list[CachedFeatures] = []
    if train.accum_freq > 1:
        caches.append(CachedFeatures(encode_image, images, train.accum_freq))
        caches.append(CachedFeatures(encode_text, batch.tokens, train.accum_freq))
        image_features, text_features = (cache.features for cache in caches)  # [N, D], [T, D]
        scale = model.logit_scale.exp()
        with autocast():
            image_image_features = head_features(model, image_features)  # [N, P]
    else:
        with autocast():
            image_features, text_features, scale, image_image_features = (ranks or ClipTowers(model))(
                images, batch.tokens
            )
    group = None if ranks is None else ranks.process_group
    loss, parts = multi_positive_loss(
        image_features,
        text_features,
        scale,
        batch.index,
        objective=train.objective,
        hn_t2i=train.hn_t2i,
        image_image_weight=train.image_image_weight,
        image_image_temperature=train.image_image_temperature,
        image_image_features=image_image_features,
        chunk=train.loss_chunk,
        group=group,
    )
    counts = (len(batch.images), len(batch.texts), batch.index.negatives)
    value, counts = over_ranks(loss, counts, group)
    values = {name: part.item() for name, part in parts.items()}
    if not math.isfinite(value):
        shown = ", ".join(f"{name} {part:.4g}" for name, part in values.items())
        raise PolygenError(
            f"step {batch.step}: loss is {value} ({shown}; logit scale {model.logit_scale.exp().item():.4g}):"
            " restart from the last checkpoint with a lower train.lr or train.grad_clip"
        )

    optimizer.zero_grad()
    loss.backward()
    for cache in caches:
        cache.backward()
    if caches and group is not None:
        average_gradients(model, group)
    limit = train.grad_clip or float("inf")
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    lr = learning_rate(batch.step, train)
    set_learning_rate(optimizer, lr)
    optimizer.step()
    clamp_logit_scale(model)
    return StepResult(value, values, lr, grad_norm.item(), model.logit_scale.exp().item(), *counts)


def over_ranks(loss: Tensor, counts: tuple[int, ...], group: dist.ProcessGroup | None) -> tuple[float, tuple[int, ...]]:
    """The mean of the ranks' losses, which is the loss of the whole batch, and the sums of their counts."""
    if group is None:
        return loss.item(), counts
    sums = torch.tensor([0.0, *counts], dtype=torch.float64, device=loss.device)
    sums[0] = loss.detach()
    dist.all_reduce(sums, group=group)
    total, *numbers = sums.tolist()
    return total / dist.get_world_size(group), tuple(map(int, numbers))
