"""One training step: augment -> CLIP -> loss -> backward -> clip gradients -> update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import RunConfig, learning_rate
from polygen_stream.train.augment import augment
from polygen_stream.train.data import TrainBatch
from polygen_stream.train.forward import ClipOutput, ClipTowers, forward_in_micro_batches
from polygen_stream.train.grad_cache import CachedFeatures
from polygen_stream.train.model import ClipModel, clamp_logit_scale, image_size
from polygen_stream.train.objectives import find_objective
from polygen_stream.train.optim import set_learning_rate
from polygen_stream.train.parallel import average_gradients
from polygen_stream.train.precision import autocast_dtype
from polygen_stream.train.staging import copy_to_device


@dataclass(frozen=True)
class StepResult:
    """The measurements of a step: about the whole batch, and the same on every rank.

    Args:
        loss: of the whole batch.
        loss_parts: its terms before weighting, by name.
        lr: learning rate of the step.
        grad_norm: before clipping.
        logit_scale: exp of the parameter, after the clamp.
        images: number of images, I+ and I-.
        texts: number of texts, T+ and T-.
        negatives: number of T- alone.
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
    model: ClipModel,
    optimizer: torch.optim.Optimizer,
    batch: TrainBatch,
    config: RunConfig,
    ddp: DistributedDataParallel | None = None,
) -> StepResult:
    """Train on one batch, or on this rank's part of it.

    Args:
        model: the CLIP, in train mode.
        optimizer: of its parameters.
        batch: images and texts on the model's device.
        config: of the run.
        ddp: the model wrapped for several ranks, each of which calls this; None for a single process.

    Raises:
        PolygenError: the loss is not finite; the weights are left as they were.
    """
    train, group = config.train, None if ddp is None else ddp.process_group
    images = augment(
        batch.images, image_size(model), train, seed=config.seed, step=batch.step, image_ids=batch.image_ids
    )  # [N, 3, S, S]
    output, caches = _forward(model, images, batch.tokens, config, ddp)
    loss, parts = find_objective(train)(
        output.image_features,
        output.text_features,
        output.logit_scale,
        batch.index,
        image_image_features=output.image_image_features,
        config=train,
        group=group,
    )
    counts = (len(batch.images), len(batch.texts), batch.index.negatives)
    loss_value, counts = reduce_over_ranks(loss, counts, group)
    loss_parts = {name: part.item() for name, part in parts.items()}
    _check_finite(loss_value, loss_parts, model, batch.step)

    optimizer.zero_grad()
    loss.backward()
    for cache in caches:
        cache.backward()
    if caches and group is not None:
        average_gradients(model, group)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip or math.inf)
    lr = learning_rate(batch.step, train)
    set_learning_rate(optimizer, lr)
    optimizer.step()
    clamp_logit_scale(model)
    return StepResult(loss_value, loss_parts, lr, grad_norm.item(), model.logit_scale.exp().item(), *counts)


def _forward(
    model: ClipModel, images: Tensor, tokens: Tensor, config: RunConfig, ddp: DistributedDataParallel | None
) -> tuple[ClipOutput, list[CachedFeatures]]:
    """Encode images [N, 3, S, S] and tokens [T, context length], in micro-batches if the config asks for them."""
    train = config.train
    dtype = autocast_dtype(train.precision, images.device)
    autocast = partial(torch.autocast, images.device.type, dtype=dtype, enabled=dtype is not None)
    if train.accum_freq > 1:
        return forward_in_micro_batches(model, images, tokens, train.accum_freq, autocast)
    with autocast():
        return (ddp or ClipTowers(model))(images, tokens), []


def _check_finite(loss: float, parts: Mapping[str, float], model: ClipModel, step: int) -> None:
    if not math.isfinite(loss):
        shown = ", ".join(f"{name} {part:.4g}" for name, part in parts.items())
        raise PolygenError(
            f"step {step}: loss is {loss} ({shown}; logit scale {model.logit_scale.exp().item():.4g}):"
            " restart from the last checkpoint with a lower train.lr or train.grad_clip"
        )


def reduce_over_ranks(
    loss: Tensor, counts: tuple[int, int, int], group: dist.ProcessGroup | None
) -> tuple[float, tuple[int, int, int]]:
    """Return the mean of the ranks' losses, which is the loss of the whole batch, and the sums of their counts."""
    if group is None:
        return loss.item(), counts
    sums = copy_to_device(torch.tensor([0.0, *counts], dtype=torch.float64), loss.device)
    sums[0] = loss.detach()
    dist.all_reduce(sums, group=group)
    total, images, texts, negatives = sums.tolist()
    return total / dist.get_world_size(group), (int(images), int(texts), int(negatives))
