"""The quality gate between a renderer and the ring: refuses pictures that show nothing.

Half precision can overflow to black pictures (SD 2 attention, SANA activations), and a shipped safety checker blanks
pictures it dislikes; neither may enter training unseen.
"""

from __future__ import annotations

import numpy as np

MIN_STD = 3.0  # grey levels of 255; the flattest real picture of a plain wall has about 6


def refuse_reasons(images: np.ndarray) -> list[str | None]:
    """For each picture of uint8 [n, h, w, 3]: why it is refused, or None."""
    spread = images.reshape(len(images), -1).std(axis=1)
    mean = images.reshape(len(images), -1).mean(axis=1)
    return [
        None if s >= MIN_STD else f"{'black' if m < 8 else 'constant'} picture (std {s:.1f} < {MIN_STD})"
        for s, m in zip(spread, mean, strict=True)
    ]
