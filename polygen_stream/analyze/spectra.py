"""Radial power spectra of pictures: how power falls with spatial frequency, generator by generator.

Conventions, the same for every generator: pictures of one size and never through JPEG, luma, a Hann window, power of
the 2-D Fourier transform averaged over rings of width 1 about the centre and divided by the picture's total power
within the Nyquist circle, its log10 averaged over pictures; corners beyond Nyquist are left out. The rings are those of
Durall et al. 2020 (arXiv 2003.01826; cc-hpc-itwm/UpConv radialProfile.py), which uses no window and keeps the sums.
"""

from __future__ import annotations

import numpy as np

LUMA = (0.2989, 0.5870, 0.1140)
CHUNK = 2**23  # values of pictures that are transformed at once
HIGH = 0.5  # radii above this share of Nyquist count as high frequencies


def radial_power(images: np.ndarray) -> np.ndarray:
    """Mean power per ring of every picture, float [n, side // 2 + 1]: from the mean colour to Nyquist.

    Args:
        images: uint8 [n, side, side, 3].
    """
    side = images.shape[1]
    window, rings = np.outer(np.hanning(side), np.hanning(side)), _ring_numbers(side)
    parts = []
    for part in np.array_split(images, -(-images.size // CHUNK)):
        luma = part.astype(np.float64) @ LUMA / 255
        power = np.abs(np.fft.fftshift(np.fft.fft2(luma * window), axes=(1, 2))) ** 2
        parts.append(np.stack([power[:, rings == r].mean(axis=1) for r in range(side // 2 + 1)], axis=1))
    return np.concatenate(parts)


def radial_spectrum(images: np.ndarray) -> np.ndarray:
    """Mean log10 power by radius of pictures uint8 [n, side, side, 3], as it is: float [side // 2 + 1]."""
    return np.log10(radial_power(images) + 1e-12).mean(axis=0)


def normalised_spectrum(images: np.ndarray) -> np.ndarray:
    """As `radial_spectrum`, of each picture's share of power: brightness and contrast drop out, shape remains."""
    power = radial_power(images)
    rings = np.bincount(_ring_numbers(images.shape[1]).ravel())[: power.shape[1]]
    return np.log10(power / (power @ rings)[:, None] + 1e-12).mean(axis=0)


def slope(spectrum: np.ndarray) -> float:
    """Exponent of the power law that fits a spectrum best from radius 1 to Nyquist; of photographs about -2."""
    radii = np.arange(1, len(spectrum))
    return float(np.polyfit(np.log10(radii), spectrum[1:], 1)[0])


def high_frequency_share(images: np.ndarray) -> float:
    """Mean share of a picture's power, its mean colour aside, that lies above HIGH x Nyquist."""
    power = radial_power(images)
    rings = np.bincount(_ring_numbers(images.shape[1]).ravel())[: power.shape[1]]
    sums = power * rings
    high = np.arange(power.shape[1]) > HIGH * (power.shape[1] - 1)
    return float((sums[:, high].sum(1) / sums[:, 1:].sum(1).clip(min=1e-12)).mean())


def spectral_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two normalised spectra in decades, over radii from 1 to Nyquist."""
    return float(np.abs(first - second)[1:].mean())


def _ring_numbers(side: int) -> np.ndarray:
    y, x = np.indices((side, side)) - side // 2
    return np.hypot(x, y).round().astype(int)
