"""One training step: augment -> CLIP -> loss -> backward -> clip gradients -> update.

On a GPU the host only issues a step. What it measures is copied to the host when the GPU gets there, so that the host
can issue the next step before it reads the results of this one.
"""

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
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.forward import ClipOutput, ClipTowers, forward_in_micro_batches
from polygen_stream.train.grad_cache import CachedFeatures
from polygen_stream.train.image_measures import measure_images
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
        measured: of this rank's images, float [3, N] on the host (image_measures.py); None if the batch is not from a
            ring.
    """

    loss: float
    loss_parts: dict[str, float]
    lr: float
    grad_norm: float
    logit_scale: float
    images: int
    texts: int
    negatives: int
    measured: Tensor | None = None


class IssuedStep:
    """A step that the device may still compute.

    Args:
        step: its number.
        lr: its learning rate.
        ranks: number of ranks that took it.
        loss: [], sum of their losses.
        counts: [3], images, texts and negatives of all of them.
        grad_norm: [].
        logit_scale: [].
        parts: terms of the loss, [] each.
        measured: of this rank's images, [3, N], if they are.
    """

    def __init__(
        self,
        step: int,
        lr: float,
        ranks: int,
        *,
        loss: Tensor,
        counts: Tensor,
        grad_norm: Tensor,
        logit_scale: Tensor,
        parts: Mapping[str, Tensor],
        measured: Tensor | None,
    ) -> None:
        self._step, self._lr, self._ranks, self._parts = step, lr, ranks, tuple(parts)
        # From a GPU into pinned memory, which is filled when the GPU gets there.
        self._counts = counts.to("cpu", non_blocking=True)
        values = (loss, grad_norm, logit_scale, *parts.values())
        self._measured = None if measured is None else measured.to("cpu", non_blocking=True)
        self._values = [value.detach().to("cpu", non_blocking=True) for value in values]
        self._there = torch.cuda.current_stream(loss.device).record_event() if loss.is_cuda else None

    def read(self) -> StepResult:
        """Wait for the step to end and return its measurements.

        Raises:
            PolygenError: its loss is not finite; the weights were left as they were.
        """
        if self._there is not None:
            self._there.synchronize()
        total, grad_norm, logit_scale, *terms = [float(value) for value in self._values]
        loss, parts = total / self._ranks, dict(zip(self._parts, terms, strict=True))
        if not math.isfinite(loss):
            shown = ", ".join(f"{name} {part:.4g}" for name, part in parts.items())
            raise PolygenError(
                f"step {self._step}: loss is {loss} ({shown}; logit scale {logit_scale:.4g}):"
                " restart from the last checkpoint with a lower train.lr or train.grad_clip"
            )
        images, texts, negatives = map(int, self._counts.tolist())
        return StepResult(loss, parts, self._lr, grad_norm, logit_scale, images, texts, negatives, self._measured)


def train_step(
    model: ClipModel,
    optimizer: torch.optim.AdamW,
    batch: TrainBatch,
    config: RunConfig,
    ddp: DistributedDataParallel | None = None,
) -> StepResult:
    """Train on one batch, or on this rank's part of it, and wait for the results; see issue_step.

    Raises:
        PolygenError: the loss is not finite; the weights are left as they were.
    """
    return issue_step(model, optimizer, batch, config, ddp).read()


def issue_step(
    model: ClipModel,
    optimizer: torch.optim.AdamW,
    batch: TrainBatch,
    config: RunConfig,
    ddp: DistributedDataParallel | None = None,
) -> IssuedStep:
    """Train on one batch, or on this rank's part of it, without waiting for the device.

    If the loss is not finite, the weights are left as they are.

    Args:
        model: the CLIP, in train mode.
        optimizer: of its parameters; fused, for only these can leave out an update that the host does not know of.
        batch: images and texts on the model's device.
        config: of the run.
        ddp: the model wrapped for several ranks, each of which calls this; None for a single process.

    Raises:
        ValueError: the config asks for a head of the image-image term that the model does not have.
    """
    train, group = config.train, None if ddp is None else ddp.process_group
    batch.wait_until_there()
    images = augment(
        batch.images, image_size(model), train, seed=config.seed, step=batch.step, image_ids=batch.image_ids
    )  # [N, 3, S, S]
    batch.staged.images_read()
    output, caches = _forward(model, images, batch.tokens, config, ddp)
    if train.image_image_head and output.image_image_features is None:
        raise ValueError(f"train.image_image_head = {train.image_image_head}, but the model has none: see initial_clip")
    loss, parts = find_objective(train)(
        output.image_features,
        output.text_features,
        output.logit_scale,
        batch.index,
        image_image_features=output.image_image_features,
        config=train,
        group=group,
    )
    measured = None if batch.feedback_rows is None else measure_images(output, batch.index)
    counts = (len(batch.images), len(batch.texts), batch.index.negatives)
    total_loss, total_counts = sum_over_ranks(loss, counts, group)

    optimizer.zero_grad()
    loss.backward()
    for cache in caches:
        cache.backward()
    if caches and group is not None:
        average_gradients(model, group)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip or math.inf)
    lr = learning_rate(batch.step, train)
    set_learning_rate(optimizer, lr)
    # What torch.amp.GradScaler says to a fused optimizer: 1 if the update is to be left out.
    optimizer.found_inf = total_loss.isfinite().logical_not().float()  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.step()
    clamp_logit_scale(model)
    return IssuedStep(
        batch.step,
        lr,
        1 if group is None else dist.get_world_size(group),
        loss=total_loss,
        counts=total_counts,
        grad_norm=grad_norm,
        logit_scale=model.logit_scale.exp(),
        parts=parts,
        measured=measured,
    )


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


def sum_over_ranks(
    loss: Tensor, counts: tuple[int, int, int], group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Return the sums of the ranks' losses, [], and of their counts, [3]. The loss of the whole batch is the mean."""
    if group is None:
        return loss.detach(), torch.tensor(counts)
    sums = copy_to_device(torch.tensor([0.0, *counts], dtype=torch.float64), loss.device)
    sums[0] = loss.detach()
    dist.all_reduce(sums, group=group)
    return sums[0], sums[1:]
