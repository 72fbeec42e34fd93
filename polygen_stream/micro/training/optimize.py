"""What every training loop of the micro models steps with: AdamW, one cycle, clipped gradients, averaged weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Log = Callable[[str], None]


class Ema:
    """An exponential moving average of parameters, warmed up so that early noise is forgotten."""

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.998) -> None:
        self._parameters, self._decay, self._steps = parameters, decay, 0
        self._average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self) -> None:
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and raw weights."""
        for parameter, average in zip(self._parameters, self._average, strict=True):
            raw = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(raw)


class Optimization:
    """AdamW under a one-cycle learning rate, with clipped gradients, averaged weights and a progress line."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], steps: int, lr: float, log: Log, weight_decay: float, warm_up: float
    ) -> None:
        self._parameters = list(parameters)
        self._optimizer = torch.optim.AdamW(self._parameters, lr, betas=(0.9, 0.99), weight_decay=weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, lr, steps, pct_start=warm_up)
        self._log, self._steps, self._started, self._done = log, steps, time.time(), 0
        self.ema = Ema(self._parameters)
        self.loss = 0.0  # running mean over about fifty steps

    def step(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self.ema.update()
        self.loss = loss.item() if self._done == 0 else 0.98 * self.loss + 0.02 * loss.item()
        self._done += 1
        if self._done % 100 == 0:
            self._log(f"step {self._done} loss {self.loss:.4f} {time.time() - self._started:.0f} s")

    def snapshot(self, save: Callable[[int], None], every: int = 1000) -> None:
        """Call `save(step)` with averaged weights in place, every so many steps and at the end."""
        if self._done % every == 0 or self._done == self._steps:
            self.ema.swap()
            save(self._done)
            self.ema.swap()
