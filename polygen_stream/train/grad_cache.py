"""The grad cache: gradient accumulation with the loss of the whole batch.

A contrastive loss is not a sum over micro-batches: every row needs all candidates. GradCache (arXiv 2101.06983;
luyug/GradCache:src/grad_cache/grad_cache.py) splits the step where it can be split: (1) encode each micro-batch without
a graph, (2) compute the loss of all features, and the gradients of the features, (3) encode each micro-batch again,
with a graph, and continue the backward pass from its features' gradients. Activations are those of one micro-batch;
loss and gradients are those of the large batch, at the price of a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.config import TrainConfig


class CachedFeatures:
    """The features of a batch, encoded in micro-batches, and the backward pass through the encoder.

    Each micro-batch is encoded twice with the same random numbers, so that dropout drops the same both times.

    Args:
        encode: [n, ...] -> [n, D]; a row of its result must depend on that row of its input alone.
        inputs: [N, ...].
        micro_batches: number of micro-batches, of equal size but for the last.

    Attributes:
        features: [N, D], a leaf of the graph.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], inputs: Tensor, micro_batches: int) -> None:
        self._encode = encode
        self._micro_batches = inputs.chunk(micro_batches)
        self._devices = [inputs.device] if inputs.is_cuda else []
        self._rng_states: list[tuple[Tensor, ...]] = []
        features = []
        with torch.no_grad():
            for micro_batch in self._micro_batches:
                self._rng_states.append(self._rng_state())
                features.append(encode(micro_batch))
        self.features = torch.cat(features).requires_grad_()

    def backward(self) -> None:
        """Accumulate the gradients of the encoder's parameters, from `features.grad`."""
        assert self.features.grad is not None, "the backward pass of the loss comes first"
        gradients = self.features.grad.split([len(micro_batch) for micro_batch in self._micro_batches])
        for micro_batch, state, gradient in zip(self._micro_batches, self._rng_states, gradients, strict=True):
            with torch.random.fork_rng(self._devices):
                torch.set_rng_state(state[0])
                for device in self._devices:
                    torch.cuda.set_rng_state(state[1], device)
                features = self._encode(micro_batch)
            features.backward(gradient)

    def _rng_state(self) -> tuple[Tensor, ...]:
        return (torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices))


def check_micro_batching(model: torch.nn.Module, train: TrainConfig) -> None:
    """Refuse a model whose features of a row depend on the other rows of the batch.

    Raises:
        UserError: the model has batch norms.
    """
    kind = torch.nn.modules.batchnorm._BatchNorm
    layers = [name for name, module in model.named_modules() if isinstance(module, kind)]
    if layers:
        raise UserError(
            f"train.accum_freq = {train.accum_freq}, but train.model = {train.model!r} has batch norms ({layers[0]} "
            f"and {len(layers) - 1} more), which would see a micro-batch instead of the batch: set train.accum_freq = "
            "1, or choose a model without batch norms, e.g. 'ViT-B-32'"
        )
