"""Batch norms whose batch is that of all ranks.

torch's SyncBatchNorm is for GPUs only. On CPUs every rank gathers the others' means and variances and combines them,
which is exact: the mean of all is the weighted mean of the ranks' means, and the variance of all is the weighted mean
of their variances plus that of their means' squared distances from it (Chan et al. 1979). Gradients go the same way
back. So a model with batch norms trains on ranks as it would on one process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor
from torch.nn.modules.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm

from polygen_stream.base.errors import UserError
from polygen_stream.train.gathered_batch import gather_with_gradient


class GatheredBatchNorm(_BatchNorm):
    """[n, C, ...] -> the same, normalised over n and ... of all ranks while training; n may differ between ranks."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        others = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(values, others, correction=0)  # [C] each, of this rank
        own = torch.stack([mean, variance, torch.full_like(mean, x.numel() / x.shape[1])])
        means, variances, counts = gather_with_gradient(own[None], dist.group.WORLD).unbind(1)  # [world, C] each
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        self._remember(mean.detach(), variance.detach() * (count / (count - 1)))
        shape = [1, -1] + [1] * (x.ndim - 2)
        factor = (variance + self.eps).rsqrt() * self.weight
        return (values * factor.view(shape) + (self.bias - mean * factor).view(shape)).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1

    def _check_input_dim(self, x: Tensor) -> None:
        assert x.ndim >= 2


def share_batch_norms(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model with batch norms over all ranks, if it has any. Parameters and buffers, and their names, stay.

    Raises:
        UserError: on CPUs, it has one of a kind that has no such form.
    """
    if device.type == "cuda":
        return convert_sync_batchnorm(model)  # knows timm's own kinds too
    for name, parent in list(model.named_modules()):
        for attribute, module in list(parent.named_children()):
            if not isinstance(module, _BatchNorm):
                continue
            plain = type(module) in (BatchNorm1d, BatchNorm2d, BatchNorm3d)
            if not (plain and module.affine and module.track_running_stats and module.momentum is not None):
                raise UserError(
                    f"train.ranks > 1 on CPUs, but {name}.{attribute} of the model is {module}, whose batch cannot be "
                    "shared by ranks: set train.ranks = 1, or choose a model without, e.g. 'ViT-B-32'"
                )
            shared = GatheredBatchNorm(module.num_features, module.eps, module.momentum)
            shared._parameters, shared._buffers = module._parameters, module._buffers
            setattr(parent, attribute, shared.train(module.training))
    return model
