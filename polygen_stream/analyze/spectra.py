"""Radial power spectra of images: how power falls with spatial frequency, generator by generator.

Conventions, the same for every generator: images of one size and never through JPEG, luma, a Hann window, power of
the 2-D Fourier transform averaged over rings of width 1 about the centre and divided by the image's total power
within the Nyquist circle, its log10 averaged over images; corners beyond Nyquist are left out. The rings are those of
Durall et al. 2020 (arXiv 2003.01826; cc-hpc-itwm/UpConv radialProfile.py), which uses no window and keeps the sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LUMA = (0.2989, 0.5870, 0.1140)
CHUNK = 2**23  # pixel values that are transformed at once
HIGH = 0.5  # of Nyquist; larger radii count as high frequencies


def radial_power(images: np.ndarray) -> np.ndarray:
    """Return the mean power per ring of every image, float [n, side // 2 + 1]: from the mean colour to Nyquist.

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
    """Return the mean log10 power by radius of images uint8 [n, side, side, 3]: float [side // 2 + 1]."""
    return np.log10(radial_power(images) + 1e-12).mean(axis=0)


def normalised_spectrum(images: np.ndarray) -> np.ndarray:
    """Return `radial_spectrum` of images whose total power is scaled to 1: brightness and contrast drop out."""
    return radial_spectra(images).mean(axis=0)


def radial_spectra(images: np.ndarray) -> np.ndarray:
    """Return the spectrum of every image, scaled as in `normalised_spectrum`: float [n, side // 2 + 1]."""
    power = radial_power(images)
    rings = np.bincount(_ring_numbers(images.shape[1]).ravel())[: power.shape[1]]
    return np.log10(power / (power @ rings)[:, None] + 1e-12)


def slope(spectrum: np.ndarray) -> float:
    """Return the exponent of the power law that fits a spectrum best from radius 1 to Nyquist; about -2 for photos."""
    radii = np.arange(1, len(spectrum))
    return float(np.polyfit(np.log10(radii), spectrum[1:], 1)[0])


def high_frequency_share(images: np.ndarray) -> float:
    """Return the mean proportion of an image's power above HIGH x Nyquist, its mean colour left out."""
    power = radial_power(images)
    rings = np.bincount(_ring_numbers(images.shape[1]).ravel())[: power.shape[1]]
    sums = power * rings
    high = np.arange(power.shape[1]) > HIGH * (power.shape[1] - 1)
    return float((sums[:, high].sum(1) / sums[:, 1:].sum(1).clip(min=1e-12)).mean())


def spectral_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean absolute difference of two normalised spectra in decades, over radii from 1 to Nyquist."""
    return float(np.abs(first - second)[1:].mean())


def spectral_distances(spectra: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return `spectral_distance` between all normalised spectra by name, {one: {other: decades}}; for JSON."""
    return {
        first: {other: round(spectral_distance(spectra[first], spectra[other]), 4) for other in spectra}
        for first in spectra
    }


def _ring_numbers(side: int) -> np.ndarray:
    y, x = np.indices((side, side)) - side // 2
    return np.hypot(x, y).round().astype(int)
