"""torch.compile instead of an engine: nothing to build and nothing to keep, but every process compiles for itself."""

from __future__ import annotations

import torch

from polygen_stream.engine.parts import PARTS
from polygen_stream.generators.pipelines import Generator

NAME = "torch-compile"  # in generators.backend, beside the names of the engine backends


def compile_parts(generator: Generator) -> list[str]:
    """Let a generator's parts compute with torch.compile; returns their names.

    Compiling happens in the first call, and once more in the first call of another number of pictures, after which the
    code takes any number. It needs a C++ compiler on a CPU.
    """
    compiled = []
    for name, module in generator.pipeline.components.items():
        part = PARTS.get(type(module).__name__)
        if part is not None:
            setattr(module, part.method, torch.compile(getattr(module, part.method)))
            compiled.append(name)
    return compiled
