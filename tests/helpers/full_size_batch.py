"""The batch of a shipped config at its size, and what it is trained with."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

from polygen_stream.config import MEMORY, RunConfig, curriculum_of, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.ring import Kind, Member, Ring
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.batch import TrainBatch, build_index, text_id
from polygen_stream.train.data import RingReader
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.process_group import RankGroup
from polygen_stream.train.staging import Staging, build_staging


def load(name: str, *overrides: str) -> RunConfig:
    """Load a shipped config for a ring in memory that holds one batch, half of whose texts are hard negatives."""
    values = dict(word.split("=", 1) for word in overrides)
    config = load_config(name, {"curriculum.schedule": "constant", "ring.storage": MEMORY, **values})
    pairs, images = config.train.batch // 2, config.train.batch * config.generators.positives
    ring = {"slots": images, "min_fill": pairs, "max_backlog": 0, "samples_per_insert": 0.0, "draw_timeout_s": 30.0}
    return config.model_copy(update={"ring": config.ring.model_copy(update=ring)})


def fill(ring: Ring, pairs: int, positives: int) -> None:
    """Put a batch of pairs into the ring, with noise for images."""
    noise = np.random.default_rng(0).integers(0, 256, (2 * positives, *ring.spec.image_shape), np.uint8)
    generators = range(len(ring.spec.generators))
    for task in range(pairs):
        members = [Member(k % len(generators), p, k) for p in (0, 1) for k in range(positives)]
        caption, negative = (f"photo {task} of {what} in the evening" for what in ("a dog", "no dog"))
        ring.open_group(task, Kind.PAIR, caption, negative, members, timeout_s=1.0)
        while claims := ring.claim(generators, len(members)):
            ring.commit(claims, noise[: len(claims)])


def draw(config: RunConfig, device: torch.device, tokenizer: Tokenizer) -> tuple[TrainBatch, Staging]:
    """Draw the batch of a single process from a ring; also what holds it and the room for the next one."""
    spec = ring_spec(config)
    with closing(Ring.create(spec)) as ring:
        ring.register("trainer", "trainer")
        fill(ring, config.train.batch // 2, config.generators.positives)
        staging = build_staging(device, spec.slots, spec.image_shape)
        reader = RingReader(
            ring, curriculum_of(config), tokenizer, staging, device, steps=1, timeout_s=30.0, stop=lambda: False
        )
        return next(iter(reader)), staging


def make_up(config: RunConfig, ranks: RankGroup, tokenizer: Tokenizer) -> tuple[TrainBatch, None]:
    """Make up this rank's part of a batch, without room for another one."""
    pairs, images = config.train.batch // ranks.world_size // 2, config.generators.positives
    first = pairs * ranks.rank
    tasks = range(first, first + pairs)
    texts = [f"photo {task} of {what} in the evening" for what in ("a dog", "no dog") for task in tasks]
    ids = [text_id(task, negative) for negative in (False, True) for task in tasks]
    index, image_ids = build_index(texts, [images] * len(texts), ids, pairs)
    side, device = config.ring.image_size, ranks.device
    pixels = torch.empty(len(image_ids), side, side, 3, dtype=torch.uint8, device=device)
    mix = DrawMix(plain=0, pair=config.train.batch // 2, share=0.5)
    tokens = tokenizer(texts).to(device)
    rows = np.zeros((len(image_ids), 3), np.int64)
    return TrainBatch(
        0, mix, pixels, tokens, index.to(device), tuple(texts), image_ids, (), None, 0.0, feedback_rows=rows
    ), None
