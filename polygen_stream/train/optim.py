"""The optimizer, AdamW."""

from __future__ import annotations

import torch

from polygen_stream.config import TrainConfig


def build_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW without weight decay on gains, biases, norms and the logit scale.

    The split is that of open_clip's trainer: no decay on parameters of fewer than two dimensions and on those whose
    name marks a bias, a norm or the logit scale. Fused: one pass over the token embedding instead of several.
    """
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or any(mark in name for mark in ("bn", "ln", "bias", "logit_scale"))
        (no_decay if exempt else decay).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": no_decay, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
