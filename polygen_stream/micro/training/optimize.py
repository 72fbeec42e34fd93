"""The optimizer of the micro models: AdamW, one-cycle learning rate, gradient clipping, averaged weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Log = Callable[[str], None]


class Ema:
    """An exponential moving average of parameters.

    Args:
        parameters: the parameters.
        decay: reached after a warm-up, so that the average forgets the first steps.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.998) -> None:
        self._parameters, self._decay, self._steps = parameters, decay, 0
        self._average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Include the parameters of the current step in the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the parameters."""
        for parameter, average in zip(self._parameters, self._average, strict=True):
            raw = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(raw)


class Optimization:
    """A training run of one cycle.

    Attributes:
        ema: the averaged weights.
        loss: running mean of the loss over about fifty steps.

    Args:
        parameters: the parameters to train.
        steps: training steps.
        lr: peak learning rate.
        log: receives a progress line every 100 steps.
        weight_decay: of AdamW.
        warm_up: share of the steps until the peak learning rate.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], steps: int, lr: float, log: Log, weight_decay: float, warm_up: float
    ) -> None:
        self._parameters = list(parameters)
        self._optimizer = torch.optim.AdamW(self._parameters, lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, lr, steps, pct_start=warm_up)
        self._log, self._steps, self._started, self._done = log, steps, time.monotonic(), 0
        self.ema = Ema(self._parameters)
        self.loss = 0.0

    def step(self, loss: Tensor) -> None:
        """Backpropagate a loss and update parameters and average."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self.ema.update()
        self.loss = loss.item() if self._done == 0 else 0.98 * self.loss + 0.02 * loss.item()
        self._done += 1
        if self._done % 100 == 0:
            self._log(f"step {self._done} loss {self.loss:.4f} {time.monotonic() - self._started:.0f} s")

    def snapshot(self, save: Callable[[int], None], every: int = 1000) -> None:
        """Call `save(step)` with averaged weights in place, if the step is a multiple of `every` or the last one."""
        if self._done % every == 0 or self._done == self._steps:
            self.ema.swap()
            save(self._done)
            self.ema.swap()
