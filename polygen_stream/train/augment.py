"""Pictures from the ring to the model's input: normalisation, and the augmentations of training.

All run batched on the model's device. Training and evaluation share `preprocess`, so the statistics cannot
drift apart; they are open_clip's, so that an exported model reads what open_clip feeds it.

What happens to a picture is a function of (seed, step, name of the picture) and drawn on the host: the same on every
device, whichever rank the picture lies on and whatever else is in its batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from open_clip.constants import OPENAI_DATASET_MEAN as MEAN
from open_clip.constants import OPENAI_DATASET_STD as STD
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from polygen_stream.base.seeding import key, mixed

DOWN_SIDES = (1 / 4, 1 / 2)  # shares of the side that random_downsample goes down to


def preprocess(images: Tensor, size: int) -> Tensor:
    """uint8 [N, H, W, 3] to normalised float32 [N, 3, size, size], channels last; resized where H, W differ.

    Resizing is bilinear with antialiasing. Pictures are square in the ring, so nothing is cropped.
    """
    x = images.permute(0, 3, 1, 2).float().div_(255)  # [N, 3, H, W], channels last because HWC was dense
    if x.shape[-2:] != (size, size):
        x = interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return x.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def random_resized_crop(images: Tensor, size: int, *, scale_min: float, seed: int, step: int, names: Tensor) -> Tensor:
    """A random crop per picture, resized to [N, 3, size, size]. No flips: captions speak of left and right.

    Same distribution as torchvision's RandomResizedCrop (area share uniform in [scale_min, 1], log-uniform
    aspect in [3/4, 4/3]), except that a crop wider or higher than the picture is clipped where torchvision
    draws again. One bilinear gather for the whole batch.

    Args:
        images: float [N, 3, H, W].
        scale_min: smallest share of the picture's area a crop keeps; 1 keeps the whole picture.
        names: int64 [N] on the host, different for pictures of a step.
    """
    count = len(images)
    area, aspect, x, y = _uniform(4, names, seed, "augment", step)
    if scale_min == 1:
        width = height = torch.ones(count)
    else:
        area = scale_min + (1 - scale_min) * area
        aspect = torch.exp((2 * aspect - 1) * math.log(4 / 3))
        width = (area * aspect).sqrt().clamp(max=1)
        height = (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)  # maps output coordinates in [-1, 1] to input coordinates
    theta[:, 0, 0], theta[:, 0, 2] = width, (2 * x - 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, (2 * y - 1) * (1 - height)
    theta = theta.to(images.device, images.dtype, non_blocking=True)
    grid = affine_grid(theta, [count, 3, size, size], align_corners=False)
    crops = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def random_downsample(images: Tensor, *, probability: float, seed: int, step: int, names: Tensor) -> Tensor:
    """Take the finest detail out of some pictures: [N, 3, S, S], each scaled down and up again with `probability`.

    Generators sign their pictures in the high frequencies; a model that cannot rely on them has to look elsewhere.
    An option of StableRep's (google-research/syn-rep-learn:StableRep/main_stablerep.py, --downsample_prob 0.05), which
    goes down to 64 or 128 of a stored picture's 256 pixels, before the crop; here the same shares of any size.
    Bilinear, antialiased on the way down.
    """
    side = images.shape[-1]
    luck, which = _uniform(2, names, seed, "downsample", step)
    chosen, which = luck < probability, (which * len(DOWN_SIDES)).long()
    images = images.clone()
    for number, share in enumerate(DOWN_SIDES):
        rows = torch.nonzero(chosen & (which == number)).flatten().to(images.device, non_blocking=True)
        if not len(rows):  # a GPU's kernel cannot be launched on none
            continue
        small = max(1, round(share * side))
        down = interpolate(images[rows], size=(small, small), mode="bilinear", antialias=True, align_corners=False)
        images[rows] = interpolate(down, size=(side, side), mode="bilinear", align_corners=False)
    return images


def _uniform(rows: int, names: Tensor, *keys: int | str) -> Tensor:
    """float32 [rows, N], uniform in [0, 1): a function of the keys, the row, and the column's name."""
    hashes = np.stack([mixed(names.numpy(), key(*keys, row)) for row in range(rows)])  # uint64
    return torch.from_numpy((hashes >> np.uint64(40)).astype(np.float32) / 2**24)
