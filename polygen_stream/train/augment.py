"""From stored pixels to the model's input: normalisation, and the augmentations of training.

Everything runs batched on the model's device. Training and evaluation share `preprocess`, so that their statistics
cannot drift apart; they are open_clip's, so that an exported model gets the input that open_clip feeds it.

An augmentation is a function of (seed, step, image id) and is drawn on the host: it does not depend on the device, the
rank of the image, or the other images of the batch.
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
from polygen_stream.config import TrainConfig
from polygen_stream.train.staging import copy_to_device

DOWNSAMPLE_FACTORS = (1 / 4, 1 / 2)  # of the side, for random_downsample


def preprocess(images: Tensor, size: int) -> Tensor:
    """Turn uint8 [N, H, W, 3] into normalised float32 [N, 3, size, size], channels last.

    Resizing, where H, W differ from `size`, is bilinear with antialiasing. Images are square in the ring, so nothing is
    cropped.
    """
    x = images.permute(0, 3, 1, 2).float().div_(255)  # [N, 3, H, W], channels last because HWC was dense
    if x.shape[-2:] != (size, size):
        x = interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (copy_to_device(torch.tensor(v), x.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return x.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, size: int, train: TrainConfig, *, seed: int, step: int, image_ids: Tensor) -> Tensor:
    """Turn the stored images of a training batch into model input, with the augmentations that a run is configured for.

    Args:
        images: uint8 [N, H, H, 3].
        size: side of the model's input, in pixels.
        train: has the strength of each augmentation.
        seed: the run's seed.
        step: the training step.
        image_ids: int64 [N] on the host, unique within the step.

    Returns:
        float32 [N, 3, size, size].
    """
    x = preprocess(images, images.shape[1])  # [N, 3, H, H]
    if train.downsample_probability:
        x = random_downsample(x, probability=train.downsample_probability, seed=seed, step=step, image_ids=image_ids)
    return random_resized_crop(x, size, scale_min=train.crop_scale_min, seed=seed, step=step, image_ids=image_ids)


def random_resized_crop(
    images: Tensor, size: int, *, scale_min: float, seed: int, step: int, image_ids: Tensor
) -> Tensor:
    """Crop each image at random and resize it: [N, 3, size, size]. No flips: captions speak of left and right.

    Same distribution as torchvision's RandomResizedCrop (area fraction uniform in [scale_min, 1], log-uniform aspect in
    [3/4, 4/3]), except that a crop wider or higher than the image is clipped where torchvision draws again. One
    bilinear gather for the whole batch.

    Args:
        images: float [N, 3, H, W].
        size: side of the result, in pixels.
        scale_min: smallest fraction of the image's area that a crop keeps; 1 keeps the whole image.
        seed: the run's seed.
        step: the training step.
        image_ids: int64 [N] on the host, unique within the step.
    """
    count = len(images)
    area, aspect, x, y = _uniform(4, image_ids, seed, "augment", step)  # [N] each
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
    theta = copy_to_device(theta.to(images.dtype), images.device)
    grid = affine_grid(theta, [count, 3, size, size], align_corners=False)
    crops = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.contiguous(memory_format=torch.channels_last)


def random_downsample(images: Tensor, *, probability: float, seed: int, step: int, image_ids: Tensor) -> Tensor:
    """Scale some images down and up again, which removes their finest detail: [N, 3, S, S].

    Generators leave fingerprints in the high frequencies; a model that cannot rely on them has to use the content. An
    option of StableRep's (google-research/syn-rep-learn:StableRep/main_stablerep.py, --downsample_prob 0.05), which
    goes down to 64 or 128 of a stored image's 256 pixels, before the crop; here by the same factors for any size.
    Bilinear, antialiased on the way down.

    Args:
        images: float [N, 3, S, S].
        probability: of an image to be scaled.
        seed: the run's seed.
        step: the training step.
        image_ids: int64 [N] on the host, unique within the step.
    """
    side = images.shape[-1]
    chance, choice = _uniform(2, image_ids, seed, "downsample", step)  # [N] each
    selected, choice = chance < probability, (choice * len(DOWNSAMPLE_FACTORS)).long()
    images = images.clone()
    for number, factor in enumerate(DOWNSAMPLE_FACTORS):
        rows = copy_to_device(torch.nonzero(selected & (choice == number)).flatten(), images.device)
        if not len(rows):  # a CUDA kernel cannot be launched on an empty tensor
            continue
        small = max(1, round(factor * side))
        down = interpolate(images[rows], size=(small, small), mode="bilinear", antialias=True, align_corners=False)
        images[rows] = interpolate(down, size=(side, side), mode="bilinear", align_corners=False)
    return images


def _uniform(rows: int, image_ids: Tensor, *keys: int | str) -> Tensor:
    """float32 [rows, N], uniform in [0, 1): a function of the keys, the row, and the image id of the column."""
    hashes = np.stack([mixed(image_ids.numpy(), key(*keys, row)) for row in range(rows)])  # uint64
    return torch.from_numpy((hashes >> np.uint64(40)).astype(np.float32) / 2**24)
