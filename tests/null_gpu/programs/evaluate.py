"""A CLIP encodes pictures and texts as the evaluator does; prints what memory that takes.

python evaluate.py MODEL SIDE          (SIDE: of the pictures, in pixels)
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from null_gpu import GIB

from polygen_stream.evaluate.encoder import BATCH, Encoder
from polygen_stream.train.model import create_clip


def main() -> None:
    """Encode two batches of each."""
    name, side = sys.argv[1], int(sys.argv[2])
    model, tokenizer = create_clip(name, torch.device("cuda:0"))
    encoder = Encoder(model.eval(), tokenizer, "cuda:0")
    weights = torch.cuda.memory_allocated()
    peaks = {}
    for what, encode in (
        ("images", lambda: encoder.images(np.zeros((2 * BATCH, side, side, 3), np.uint8))),
        ("texts", lambda: encoder.texts(["a red dog on a beach"] * 2 * BATCH)),
    ):
        torch.cuda.reset_peak_memory_stats()
        encode()
        peaks[what] = (torch.cuda.max_memory_allocated() - weights) / GIB
    figures = {
        "weights": weights / GIB,
        **peaks,
        "peak": (weights + max(peaks.values()) * GIB) / GIB,
        "reserved": torch.cuda.max_memory_reserved() / GIB,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
