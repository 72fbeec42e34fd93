"""Trains the autoencoders of the micro generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from polygen_stream.micro.oracle import to_tensor
from polygen_stream.micro.training.dataset import PaintedImages
from polygen_stream.micro.training.optimize import Log, Optimization

HELD_OUT = 2000  # images at the end of the set that are not trained on


def encode(vae: AutoencoderKL | AutoencoderDC, images: Tensor) -> Tensor:
    """Return the latents of images, or the mode of their distribution if the autoencoder predicts one.

    Args:
        vae: the autoencoder.
        images: float32 [n, 3, height, width] in -1..1.

    Returns:
        float32 [n, channels, latent height, latent width].
    """
    if isinstance(vae, AutoencoderDC):
        return vae.encode(images, return_dict=False)[0]
    return _distribution(vae, images).mode()


@torch.no_grad()
def encode_all(vae: AutoencoderKL | AutoencoderDC, images: np.ndarray, batch: int = 500) -> Tensor:
    """Return the latents of images uint8 [n, height, width, 3], computed in batches."""
    return torch.cat([encode(vae, to_tensor(images[i : i + batch])) for i in range(0, len(images), batch)])


def fit_autoencoder(
    vae: AutoencoderKL | AutoencoderDC, data: PaintedImages, steps: int, batch: int, lr: float, log: Log
) -> float:
    """Train an autoencoder to reconstruct, with latents of about zero mean and unit variance per channel.

    Args:
        vae: the autoencoder, trained in place.
        data: the images; the last `HELD_OUT` are not trained on.
        steps: training steps.
        batch: images per step.
        lr: peak learning rate.
        log: receives progress lines.

    Returns:
        PSNR in dB over the held-out images.
    """
    vae.train()
    optimization = Optimization(vae.parameters(), steps, lr, log, weight_decay=1e-3, warm_up=0.1)
    for x in _batches(data, steps, batch):
        if isinstance(vae, AutoencoderDC):
            mean = encode(vae, x)
            # The decoder must tolerate small errors of the denoiser. A KL autoencoder learns that from its own noise.
            z = mean + 0.05 * torch.randn_like(mean)
            kl = torch.zeros(())
        else:
            encoded = _distribution(vae, x)
            z, mean, kl = encoded.sample(), cast(Tensor, encoded.mean), encoded.kl().mean()
        y = _decode(vae, z)
        moments = mean.mean((0, 2, 3)).pow(2).mean() + (mean.var((0, 2, 3)) - 1).pow(2).mean()
        optimization.step(F.l1_loss(y, x) + F.mse_loss(y, x) + 3e-4 * kl / z[0].numel() + 0.02 * moments)
    optimization.ema.swap()
    vae.eval()
    return _psnr(vae, vae, data)


def fit_to_latents(
    vae: AutoencoderKL, other: AutoencoderKL, data: PaintedImages, steps: int, batch: int, lr: float, log: Log
) -> float:
    """Train an autoencoder to read and write the latents of another one.

    Its encoder learns the other's distribution of an image, its decoder to reconstruct the image from samples of it.

    Args:
        vae: the autoencoder, trained in place.
        other: the autoencoder with these latents. It is not trained.
        data: the images; the last `HELD_OUT` are not trained on.
        steps: training steps.
        batch: images per step.
        lr: peak learning rate.
        log: receives progress lines.

    Returns:
        PSNR in dB over the held-out images, decoded from the other's latents.
    """
    vae.train()
    other.eval()
    optimization = Optimization(vae.parameters(), steps, lr, log, weight_decay=1e-3, warm_up=0.1)
    for x in _batches(data, steps, batch):
        with torch.no_grad():
            wanted = _distribution(other, x)
            z = wanted.sample()
        read = _distribution(vae, x)
        y = _decode(vae, z)
        off = F.mse_loss(read.mean, wanted.mean) + 0.1 * F.mse_loss(read.logvar, wanted.logvar)
        optimization.step(F.l1_loss(y, x) + F.mse_loss(y, x) + off)
    optimization.ema.swap()
    vae.eval()
    return _psnr(vae, other, data)


def _batches(data: PaintedImages, steps: int, batch: int) -> Iterator[Tensor]:
    """Yield random images to train on, float32 [batch, 3, height, width] in -1..1, for each step."""
    train = data.images[:-HELD_OUT]
    for _ in range(steps):
        yield to_tensor(train[torch.randint(len(train), (batch,)).numpy()])


@torch.no_grad()
def _psnr(decoder: AutoencoderKL | AutoencoderDC, encoder: AutoencoderKL | AutoencoderDC, data: PaintedImages) -> float:
    """Return the PSNR in dB over the held-out images."""
    x = to_tensor(data.images[-HELD_OUT:])
    errors = [F.mse_loss(_decode(decoder, encode(encoder, part)), part).item() for part in x.split(500)]
    return float(-10 * np.log10(np.mean(errors) / 4))


def _distribution(vae: AutoencoderKL, images: Tensor) -> DiagonalGaussianDistribution:
    return vae.encode(images, return_dict=False)[0]


def _decode(vae: AutoencoderKL | AutoencoderDC, z: Tensor) -> Tensor:
    # diffusers annotates latents as FloatTensor, a type that no tensor has at run time.
    return vae.decode(cast(torch.FloatTensor, z), return_dict=False)[0]
