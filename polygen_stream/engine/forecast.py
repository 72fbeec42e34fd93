"""What a build will cost, before it is made."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path

from polygen_stream.engine.cache import EngineCache
from polygen_stream.generators.recipe import Recipe

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Measured on two cores: a part of a few million parameters takes 8 s, the 860 million of SD 1.5's UNet 103 s.
SECONDS_PER_PART, SECONDS_PER_MILLION = 8.0, 0.12
MIB = 2**20


def forecast(recipe: Recipe, backend: str, counts: Mapping[str, int], cache: EngineCache) -> str:
    """Return the expected size and time of a recipe's engines, in words.

    The time is that of the last such build if there was one, else it is estimated from the size.

    Args:
        recipe: The generator's recipe; says which type each part computes in.
        backend: As in `generators.backend`.
        counts: Numbers in the weights of each part.
        cache: Where the last build is looked for.
    """
    millions = {part: count / 1e6 for part, count in counts.items()}
    size = sum(count * BYTES[recipe.dtype_of(part)] for part, count in counts.items())
    last = [e for e in cache.entries() if (e.key.generator, e.key.backend) == (recipe.name, backend)]
    if last:
        seconds, source = sum(last[-1].report["seconds"].values()), "as last time"
    else:
        seconds = sum(SECONDS_PER_PART + SECONDS_PER_MILLION * each for each in millions.values())
        source = "by its size"
    return f"{sum(millions.values()):.1f} M parameters, about {size / MIB:.0f} MiB and {seconds:.0f} s ({source})"


def parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a part, read from their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total
