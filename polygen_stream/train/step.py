"""One optimizer step: augment, forward, loss, backward, clip, update."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from polygen_stream.config import RunConfig
from polygen_stream.errors import PolygenError
from polygen_stream.train.accumulate import CachedFeatures
from polygen_stream.train.augment import preprocess, random_downsample, random_resized_crop
from polygen_stream.train.data import Batch
from polygen_stream.train.loss import multi_positive_loss
from polygen_stream.train.model import clamp_logit_scale, image_size
from polygen_stream.train.optim import learning_rate, set_learning_rate
from polygen_stream.train.precision import autocast_dtype


@dataclass(frozen=True)
class StepResult:
    """What a step has to say for itself; logit_scale is exp of the parameter, after the clamp."""

    loss: float
    loss_parts: dict[str, float]
    lr: float
    grad_norm: float  # before clipping
    logit_scale: float


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, config: RunConfig) -> StepResult:
    """Train on one batch. The model must be in train mode.

    Raises:
        PolygenError: the loss is not finite; the weights are left as they were.
    """
    train = config.train
    which = {"seed": config.seed, "step": batch.step, "names": batch.names}
    images = preprocess(batch.images, batch.images.shape[1])  # [N, 3, H, H]
    if train.downsample_probability:
        images = random_downsample(images, probability=train.downsample_probability, **which)
    images = random_resized_crop(images, image_size(model), scale_min=train.crop_scale_min, **which)  # [N, 3, S, S]
    dtype = autocast_dtype(train.precision, images.device)
    autocast = partial(torch.autocast, images.device.type, dtype=dtype, enabled=dtype is not None)

    def encode_image(images: Tensor) -> Tensor:
        with autocast():
            return model.encode_image(images, normalize=True)

    def encode_text(tokens: Tensor) -> Tensor:
        with autocast():
            return model.encode_text(tokens, normalize=True)

    caches: list[CachedFeatures] = []
    if train.accumulate > 1:
        caches.append(CachedFeatures(encode_image, images, train.accumulate))
        caches.append(CachedFeatures(encode_text, batch.tokens, train.accumulate))
        image_features, text_features = (cache.features for cache in caches)  # [N, D], [T, D]
    else:
        image_features, text_features = encode_image(images), encode_text(batch.tokens)
    head_features = None
    if train.image_image_head:
        with autocast():
            head_features = normalize(model.image_image_head(image_features), dim=-1)  # [N, P]
    loss, parts = multi_positive_loss(
        image_features,
        text_features,
        model.logit_scale.exp(),
        batch.layout,
        objective=train.objective,
        hn_t2i=train.hn_t2i,
        image_image_weight=train.image_image_weight,
        image_image_temperature=train.image_image_temperature,
        image_image_features=head_features,
        chunk=train.loss_chunk,
    )
    value, values = loss.item(), {name: part.item() for name, part in parts.items()}
    if not torch.isfinite(loss):
        shown = ", ".join(f"{name} {part:.4g}" for name, part in values.items())
        raise PolygenError(
            f"step {batch.step}: loss is {value} ({shown}; logit scale {model.logit_scale.exp().item():.4g}):"
            " restart from the last checkpoint with a lower train.lr or train.grad_clip"
        )

    optimizer.zero_grad()
    loss.backward()
    for cache in caches:
        cache.backward()
    limit = train.grad_clip or float("inf")
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    lr = learning_rate(batch.step, train)
    set_learning_rate(optimizer, lr)
    optimizer.step()
    clamp_logit_scale(model)
    return StepResult(value, values, lr, grad_norm.item(), model.logit_scale.exp().item())
