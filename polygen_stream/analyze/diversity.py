"""How much the pictures of one caption differ, and the spectrum they have."""

from __future__ import annotations

import numpy as np


def unbiased_std(features: np.ndarray) -> float:
    """Diversity of the pictures of one caption: the unbiased standard deviation of each feature, averaged over them.

    Boutin et al. 2022 (serre-lab/diversity_vs_recognizability, utils/evaluation_tools.py), per class there and per
    caption here.

    Args:
        features: float [pictures, d], at least two pictures.
    """
    return float(features.std(axis=0, ddof=1).mean())


def vendi_score(features: np.ndarray) -> float:
    """Effective number of different pictures, 1..n: exp of the entropy of the eigenvalues of K / n.

    K is the cosine kernel (vertaix/Vendi-Score, vendi_score/vendi.py).

    Args:
        features: float [n, d].
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit)).clip(0)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def radial_spectrum(images: np.ndarray) -> np.ndarray:
    """Mean log10 power of square pictures by radius: float [side // 2 + 1], from the mean colour to Nyquist.

    Luma 0.2989 R + 0.5870 G + 0.1140 B in 0..1, Hann window, power of the 2-D Fourier transform, averaged over rings of
    width 1, its logarithm averaged over pictures (after Durall et al. 2020, cc-hpc-itwm/UpConv radialProfile.py).

    Args:
        images: uint8 [n, side, side, 3].
    """
    side = images.shape[1]
    luma = images.astype(np.float64) @ [0.2989, 0.5870, 0.1140] / 255
    window = np.hanning(side)
    power = np.abs(np.fft.fftshift(np.fft.fft2(luma * np.outer(window, window)), axes=(1, 2))) ** 2
    y, x = np.indices((side, side)) - side // 2
    radius = np.hypot(x, y).round().astype(int)
    rings = [power[:, radius == r].mean(axis=1) for r in range(side // 2 + 1)]
    return np.log10(np.stack(rings, axis=1) + 1e-12).mean(axis=0)
