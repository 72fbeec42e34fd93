"""A trainer's rank at the size of a shipped config takes two steps; prints what memory and host waits that takes.

python train.py CONFIG [SECTION.KEY=VALUE ...]

A single process draws its batch from a ring through pinned staging. One of several ranks, which the environment
variables of torchrun tell apart, makes up its part of it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import closing

import numpy as np
import torch
from null_gpu import GIB, Counters, HostWaits

from polygen_stream.config import RunConfig, curriculum_of, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.ring import Kind, Member, Ring
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.data import RingReader, TrainBatch, build_index
from polygen_stream.train.device import training_device
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.parallel import wrap_in_ddp
from polygen_stream.train.process_group import RankGroup, join_ranks, leave_ranks, rank_from_environment
from polygen_stream.train.staging import build_staging
from polygen_stream.train.step import train_step
from polygen_stream.train.step_barrier import Readiness
from polygen_stream.train.trainer import _build_model


def load(name: str, *overrides: str) -> RunConfig:
    """Load a shipped config for a ring that holds one batch, half of whose texts are hard negatives."""
    values = dict(word.split("=", 1) for word in overrides)
    config = load_config(name, {"curriculum.schedule": "constant", **values})
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


def draw(config: RunConfig, device: torch.device, tokenizer: Tokenizer) -> TrainBatch:
    """Draw the batch of a single process from a ring."""
    spec = ring_spec(config)
    with closing(Ring.create(spec)) as ring:
        ring.register("trainer", "trainer")
        fill(ring, config.train.batch // 2, config.generators.positives)
        staging = build_staging(device, spec.slots, spec.image_shape)
        reader = RingReader(
            ring, curriculum_of(config), tokenizer, staging, device, steps=1, timeout_s=30.0, stop=lambda: False
        )
        return next(iter(reader))


def make_up(config: RunConfig, ranks: RankGroup, tokenizer: Tokenizer) -> TrainBatch:
    """Make up this rank's part of a batch."""
    pairs, images = config.train.batch // ranks.world_size // 2, config.generators.positives
    first = pairs * ranks.rank
    tasks = range(first, first + pairs)
    texts = [f"photo {task} of {what} in the evening" for what in ("a dog", "no dog") for task in tasks]
    index, image_ids = build_index(texts, [images] * len(texts), tasks, tasks)
    side, device = config.ring.image_size, ranks.device
    pixels = torch.empty(len(image_ids), side, side, 3, dtype=torch.uint8, device=device)
    mix = DrawMix(plain=0, pair=config.train.batch // 2, share=0.5)
    tokens = tokenizer(texts).to(device)
    return TrainBatch(0, mix, pixels, tokens, index.to(device), tuple(texts), image_ids, (), None, 0.0)


def main() -> None:
    """Set up as train/trainer.py does, and take two steps with one batch."""
    config = load(*sys.argv[1:])
    world_size = config.train.ranks * config.launch.nodes
    device = training_device(config.train.device, rank_from_environment(world_size)[1])
    ranks = join_ranks(config, device, lambda doing: None)
    first_step = ranks.agree_on_step(config, 7)
    verdict, _ = ranks.step_barrier(0, Readiness.READY)
    model, tokenizer = _build_model(config, None, device)
    ddp = wrap_in_ddp(model, device) if world_size > 1 else None
    optimizer = build_optimizer(model, config.train)
    model.train()
    drawing, drawing_waits = Counters(), HostWaits()
    with drawing_waits:
        batch = make_up(config, ranks, tokenizer) if ddp else draw(config, device, tokenizer)
    drawn = {"pageable": drawing.pageable_copies_in, "bytes": drawing.bytes_in}
    for _ in range(2):  # the first one makes the optimizer's states
        counters, waits = Counters(), HostWaits()
        with waits:
            result = train_step(model, optimizer, batch, config, ddp)
        taken = {"pageable": counters.pageable_copies_in, "kernels": counters.kernels}
    figures = {
        "peak": torch.cuda.max_memory_allocated(device) / GIB,
        "reserved": torch.cuda.max_memory_reserved(device) / GIB,
        "host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "drawing": {**drawn, "waits": drawing_waits.calls.most_common()},
        "step": {**taken, "waits": waits.calls.most_common(), "collectives": counters.collectives},
        "images": result.images,
        "texts": result.texts,
        "negatives": result.negatives,
        "agreed": [first_step, verdict.name],
        "device": str(device),
    }
    leave_ranks(ranks)
    print(json.dumps(figures), flush=True)
    os._exit(0)  # NCCL's threads, which have nothing to talk to, are not waited for


if __name__ == "__main__":
    main()
