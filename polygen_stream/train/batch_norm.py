"""Synchronised batch norms: their statistics are those of the batch of all ranks.

torch's SyncBatchNorm is for GPUs only. On CPUs every rank gathers the others' means and variances and combines them,
which is exact: the mean of all is the weighted mean of the ranks' means, and the variance of all is the weighted mean
of their variances plus that of their means' squared distances from it (Chan et al. 1979). Gradients pass through the
same gather. So a model with batch norms trains on several ranks as it would on one process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor
from torch.nn.modules.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm

from polygen_stream.base.errors import UserError
from polygen_stream.train.gathered_batch import gather_with_gradient


class GatheredBatchNorm(_BatchNorm):
    """A batch norm over [n, C, ...] of all ranks while training; n may differ between ranks."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, C, ...] over n and ... of all ranks."""
        if not self.training:
            return super().forward(input)
        group = dist.group.WORLD
        assert group is not None, "the ranks join before the model is distributed"
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        reduced_dims = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x, reduced_dims, correction=0)  # [C] each, of this rank
        local = torch.stack([mean, variance, torch.full_like(mean, x.numel() / x.shape[1])])
        means, variances, counts = gather_with_gradient(local[None], group).unbind(1)  # [world_size, C] each
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        self._update_running_statistics(mean.detach(), variance.detach() * (count / (count - 1)))
        shape = [1, -1] + [1] * (x.ndim - 2)
        factor = (variance + self.eps).rsqrt() * self.weight
        return (x * factor.view(shape) + (self.bias - mean * factor).view(shape)).to(input.dtype)

    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None, "synchronize_batch_norms leaves no other kind"
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2


def synchronize_batch_norms(model: torch.nn.Module, device: torch.device) -> None:
    """Replace the model's batch norms by synchronised ones, in place. Parameters and buffers, and their names, stay.

    Args:
        model: not itself a batch norm.
        device: where it is.

    Raises:
        UserError: on CPUs, the model has a batch norm of a kind that has no synchronised form.
    """
    if device.type == "cuda":
        converted = convert_sync_batchnorm(model)  # knows timm's own kinds too
        assert converted is model, "only a batch norm is converted into another module"
        return
    for name, parent in list(model.named_modules()):
        for attribute, module in list(parent.named_children()):
            if not isinstance(module, _BatchNorm):
                continue
            plain = type(module) in (BatchNorm1d, BatchNorm2d, BatchNorm3d)
            if not (plain and module.affine and module.track_running_stats and module.momentum is not None):
                raise UserError(
                    f"train.ranks > 1 on CPUs, but {name}.{attribute} of the model is {module}, whose batch cannot be "
                    "shared by ranks: set train.ranks = 1, or choose a model without batch norms, e.g. 'ViT-B-32'"
                )
            synchronized = GatheredBatchNorm(module.num_features, module.eps, module.momentum)
            synchronized._parameters, synchronized._buffers = module._parameters, module._buffers
            setattr(parent, attribute, synchronized.train(module.training))
