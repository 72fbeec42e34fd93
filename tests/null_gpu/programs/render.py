"""A generator at full size renders batches; prints what memory and host waits that takes.

python render.py RECIPE BATCH ...
"""

from __future__ import annotations

import json
import resource
import sys
from types import SimpleNamespace

import torch
from full_size import find_timesteps_by_position, load_full_size
from null_gpu import GIB, HostWaits

from polygen_stream.generators.pipelines import Generator
from polygen_stream.producers.renderer import _render


def render(generator: Generator, batch: int) -> dict:
    """Render a batch, and return its figures: as of a process that has rendered nothing before."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    claims = [SimpleNamespace(caption=f"a red dog number {i} on a beach", seed=i) for i in range(batch)]
    waits = HostWaits()
    with waits:
        pictures = _render(generator, claims, min_batch=1)
    return {
        "peak": torch.cuda.max_memory_allocated() / GIB,
        "reserved": torch.cuda.max_memory_reserved() / GIB,
        "waits": sum(waits.calls.values()),
        "where": waits.calls.most_common(8),
        "shape": pictures.shape,
        "dtype": str(pictures.dtype),
    }


if __name__ == "__main__":
    name, *batches = sys.argv[1:]
    find_timesteps_by_position()
    generator = load_full_size(name, "cuda:0")
    weights = torch.cuda.memory_allocated()
    parts = {
        part: [str(module.dtype), str(module.device)]
        for part, module in generator.pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }
    figures = {
        "parts": parts,
        "weights": weights / GIB,
        "batches": {batch: render(generator, int(batch)) for batch in batches},
        "host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(figures))
