"""What a pipeline really calls its parts with: the example inputs of the export and the material of the parity gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from polygen_stream.engine.parts import part_of

Inputs = Mapping[str, Tensor]


@contextmanager
def recording(pipeline: DiffusionPipeline, parts: Sequence[str]) -> Iterator[dict[str, list[Inputs]]]:
    """Collect the named inputs of the first and the last call of each part while the block runs.

    The first and last denoising steps see pure noise and a nearly finished picture; what lies between is between.
    """
    calls: dict[str, list[Inputs]] = {name: [] for name in parts}
    with ExitStack() as listening:
        for name in parts:
            listening.callback(_listen(getattr(pipeline, name), calls[name]))
        yield calls


def _listen(module: Any, calls: list[Inputs]) -> Callable[[], None]:
    """Put a listener before the module's method; returns what takes it away again."""
    part = part_of(module)
    original = getattr(module, part.method)

    def listen(*args: Any, **kwargs: Any) -> Any:
        inputs = {name: tensor.clone() for name, tensor in part.inputs(*args, **kwargs).items()}
        calls[1:] = [inputs] if calls else []
        if not calls:
            calls.append(inputs)
        return original(*args, **kwargs)

    setattr(module, part.method, listen)
    return lambda: delattr(module, part.method)  # the class's own method shows again
