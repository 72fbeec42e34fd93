"""A batch of four colours, and the micro model to train on it."""

from __future__ import annotations

import torch

from polygen_stream.config import RunConfig
from polygen_stream.ring import DrawRecord
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.text_image_index import TextImageIndex

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}


def setup(config: RunConfig):
    torch.manual_seed(0)
    model, tokenizer = create_clip("micro")
    return model.train(), tokenizer, build_optimizer(model, config.train)


def batch_of(tokenizer, step: int, negatives: int = 2) -> TrainBatch:
    """Four colours, two images each; the last `negatives` captions count as T-."""
    texts = [f"a {colour} picture" for colour in COLOURS]
    pixels = torch.tensor(list(COLOURS.values()), dtype=torch.uint8).repeat_interleave(2, 0)
    index = TextImageIndex.from_tensors(torch.arange(4).repeat_interleave(2), torch.arange(4) >= 4 - negatives)
    return TrainBatch(
        step=step,
        mix=DrawMix(4 - 2 * negatives, negatives, negatives / 4),
        images=pixels[:, None, None, :].expand(8, 32, 32, 3),
        tokens=tokenizer(texts),
        index=index,
        texts=tuple(texts),
        image_ids=torch.arange(8),
        generators=(0,) * 8,
        draw_record=DrawRecord(0, (), (), ()),
        waited_s=0.0,
    )
