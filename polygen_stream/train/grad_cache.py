"""Gradient accumulation with the loss of the whole batch.

A contrastive loss does not add up over micro-batches: every row needs all columns. GradCache (arXiv 2101.06983;
luyug/GradCache:src/grad_cache/grad_cache.py) splits the step where it can be split: (1) encode the batch piece by piece
without a graph, (2) take the loss of all features, and their gradients, (3) encode each piece again, with a graph, and
go on backwards from its features' gradients. Activations are those of one piece; value and gradients are those of the
large batch, at the price of a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.config import TrainConfig


class CachedFeatures:
    """The features of a batch, encoded piece by piece, and the way back through the encoder.

    Each piece is encoded twice with the same random numbers, so that dropout drops the same both times.

    Args:
        encode: [n, ...] -> [n, D]; a row of its result must depend on that row of its input alone.
        inputs: [N, ...].
        pieces: number of pieces, of equal size but for the last.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], inputs: Tensor, pieces: int) -> None:
        self._encode = encode
        self._pieces = inputs.chunk(pieces)
        self._devices = [inputs.device] if inputs.is_cuda else []
        self._random: list[tuple[Tensor, ...]] = []
        parts = []
        with torch.no_grad():
            for piece in self._pieces:
                self._random.append(self._random_state())
                parts.append(encode(piece))
        self.features = torch.cat(parts).requires_grad_()  # [N, D], a leaf

    def backward(self) -> None:
        """From `features.grad` to the gradients of the encoder's parameters, which add up over the pieces."""
        gradients = self.features.grad.split([len(piece) for piece in self._pieces])
        for piece, state, gradient in zip(self._pieces, self._random, gradients, strict=True):
            with torch.random.fork_rng(self._devices):
                torch.set_rng_state(state[0])
                for device in self._devices:
                    torch.cuda.set_rng_state(state[1], device)
                features = self._encode(piece)
            features.backward(gradient)

    def _random_state(self) -> tuple[Tensor, ...]:
        return (torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices))


def check_divisible(model: torch.nn.Module, train: TrainConfig) -> None:
    """Refuse a model whose features of a row depend on the other rows of the batch.

    Raises:
        UserError: it has batch norms.
    """
    kind = torch.nn.modules.batchnorm._BatchNorm
    layers = [name for name, module in model.named_modules() if isinstance(module, kind)]
    if layers:
        raise UserError(
            f"train.accum_freq = {train.accum_freq}, but train.model = {train.model!r} has batch norms ({layers[0]} "
            f"and {len(layers) - 1} more), which would see a micro-batch instead of the batch: set train.accum_freq = "
            "1, or choose a model without, e.g. 'ViT-B-32'"
        )
