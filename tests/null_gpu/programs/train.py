"""A trainer's rank at the size of a shipped config takes three steps; prints what memory and host waits that takes.

python train.py CONFIG [SECTION.KEY=VALUE ...]

A single process draws its batch from a ring through pinned staging. One of several ranks, which the environment
variables of torchrun tell apart, makes up its part of it.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import torch
from full_size_batch import draw, load, make_up
from null_gpu import GIB, Counters, HostWaits

from polygen_stream.train.device import training_device
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.parallel import wrap_in_ddp
from polygen_stream.train.process_group import join_ranks, leave_ranks, rank_from_environment
from polygen_stream.train.step import issue_step
from polygen_stream.train.step_barrier import Readiness
from polygen_stream.train.trainer import _build_model


def main() -> None:
    """Set up as train/trainer.py does, and take three steps with one batch."""
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
        batch, _staging = make_up(config, ranks, tokenizer) if ddp else draw(config, device, tokenizer)
    drawn = {"pageable": drawing.pageable_copies_in, "bytes": drawing.bytes_in}
    # The first step makes the optimizer's states, the second one DDP's final buckets. DDP logs how long its parts took
    # and waits for the GPU to know it, in its first ten steps and later in every hundredth.
    for _ in range(12 if ddp and config.train.accum_freq == 1 else 3):
        counters, waits, reading = Counters(), HostWaits(), HostWaits()
        with waits:
            issued = issue_step(model, optimizer, batch, config, ddp)
        with reading:
            result = issued.read()
        taken = {"pageable": counters.pageable_copies_in, "kernels": counters.kernels}
    figures = {
        "peak": torch.cuda.max_memory_allocated(device) / GIB,
        "reserved": torch.cuda.max_memory_reserved(device) / GIB,
        "host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "drawing": {**drawn, "waits": drawing_waits.calls.most_common()},
        "step": {**taken, "waits": waits.calls.most_common(), "collectives": counters.collectives},
        "reading": {"waits": reading.calls.most_common()},
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
