"""Training objectives: the loss of a step by name, or a function of the user's own.

`train.objective` is a name, or the "module:attribute" of a function that follows `Objective`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import TrainConfig
from polygen_stream.registry import OBJECTIVES, is_own
from polygen_stream.train.loss import LossName, multi_positive_loss
from polygen_stream.train.text_image_index import TextImageIndex


class Objective(Protocol):
    """The loss of a batch of images and texts; a function, or an object that can be called like one.

    It is called once a step, on every rank of the trainer, outside of autocast, and has to be a function of its
    arguments alone, or an interrupted run would not go on as it would have gone on.
    """

    def __call__(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        index: TextImageIndex,
        /,
        *,
        image_image_features: Tensor | None,
        config: TrainConfig,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Args:
            image_features: float [N, D], L2-normalised, with a graph; fp16 or bf16 under autocast. The images of this
                rank, those of captions before those of hard negatives.
            text_features: float [T, D], likewise. Captions before hard negatives.
            logit_scale: Scalar s = exp of the model's parameter: the logit of image r and text t is
                s * image_features[r] . text_features[t].
            index: Which image shows which text, and how many texts are hard negatives.
            image_image_features: float [N, P], L2-normalised: features of the head of train.image_image_head, or None
                without one.
            config: The run's [train] table.
            group: The ranks that share the batch, each of which calls this with its part; None for a single process.

        Returns:
            The scalar loss, of which the step takes the gradient. With a group its mean over the ranks has to be the
            loss of the whole batch, because gradients are averaged over the ranks: multiply a rank's share of a sum by
            the number of ranks. And named scalars without a graph for the metrics, the same on every rank.

        Raises:
            PolygenError: The batch cannot be used. Any other exception ends the trainer too, with its traceback in the
                log.
        """
        ...


def find_objective(config: TrainConfig) -> Objective:
    """Return the objective that train.objective names.

    Raises:
        UserError: There is none, or it cannot be imported or called as an objective is.
    """
    found: Objective = OBJECTIVES.load(config.objective)
    return _checked(config.objective, found) if is_own(config.objective) else found


def _checked(name: str, objective: Objective) -> Objective:
    """Return an objective of the user's own that refuses what no step can be taken with."""

    def checked(
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        index: TextImageIndex,
        /,
        *,
        image_image_features: Tensor | None,
        config: TrainConfig,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        returned: Any = objective(
            image_features, text_features, logit_scale, index,
            image_image_features=image_image_features, config=config, group=group,
        )  # fmt: skip
        if problem := _problem(returned):
            raise PolygenError(f"train.objective = {name!r} {problem}: see {OBJECTIVES.contract}")
        loss, parts = returned
        return loss, {part: value.detach() for part, value in parts.items()}

    return checked


def _problem(returned: Any) -> str | None:
    """What is wrong with what an objective returned, in words."""
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
        return f"returned {type(returned).__name__}, not a tuple of the loss and a dict of its parts"
    loss, parts = returned
    if not isinstance(loss, Tensor):
        return f"returned a loss of type {type(loss).__name__}, not a tensor"
    if loss.dim():
        return f"returned a loss of shape {list(loss.shape)}, not a scalar"
    if not loss.requires_grad:
        return "returned a loss that has no gradient"
    for part, value in parts.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            return f"returned {part!r} among the loss's parts, which is not a scalar tensor"
    return None


def _contrastive(objective: LossName) -> Objective:
    """Return one of the losses of train/loss.py as an objective."""

    def contrastive(
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        index: TextImageIndex,
        /,
        *,
        image_image_features: Tensor | None,
        config: TrainConfig,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return multi_positive_loss(
            image_features,
            text_features,
            logit_scale,
            index,
            objective=objective,
            hn_t2i=config.hn_t2i,
            hn_weight=config.hn_weight,
            image_image_weight=config.image_image_weight,
            image_image_temperature=config.image_image_temperature,
            image_image_candidates=config.image_image_candidates,
            image_image_features=image_image_features,
            chunk=config.loss_chunk,
            group=group,
        )

    return contrastive


multi_positive = _contrastive("multi_positive")
negclip = _contrastive("negclip")
infonce = _contrastive("infonce")
