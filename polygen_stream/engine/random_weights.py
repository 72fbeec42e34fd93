"""Parts of a generator with random weights: the real architecture at its real size, and nothing learnt.

Engines of them show that a graph exports, compiles and how long that takes. They are kept apart in the cache by their
key, and no renderer loads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import diffusers
import torch
import transformers
from torch.overrides import TorchFunctionMode

from polygen_stream.base.errors import UserError
from polygen_stream.engine.architecture import architecture
from polygen_stream.generators.pipelines import cast_latents
from polygen_stream.generators.recipe import Recipe

TILE = 1 << 22  # random numbers that are drawn; larger tensors repeat them


def random_module(recipe: Recipe, part: str) -> torch.nn.Module:
    """A part of a recipe in its type, in inference mode; the same numbers every time.

    Raises:
        UserError: its architecture is not known, or is of a class that neither diffusers nor transformers has.
    """
    name, config = architecture(recipe, part)
    # Built in its own type and without the initialisation, it never takes more memory than its weights.
    with _default_dtype(getattr(torch, recipe.dtype_of(part))), _NoInitialisation(), torch.no_grad():
        module = _create(name, config)
        _fill(module)
    if part == "vae" and part in recipe.dtypes:
        cast_latents(module)
    return module.eval()


def count_parameters(recipe: Recipe, part: str) -> int:
    """Parameters of a part; nothing of its size is allocated."""
    with torch.device("meta"):
        module = _create(*architecture(recipe, part))
    return sum(parameter.numel() for parameter in module.parameters())


def _create(name: str, config: dict[str, Any]) -> torch.nn.Module:
    if hasattr(diffusers, name):
        return getattr(diffusers, name).from_config(config)
    module_class = getattr(transformers, name, None)
    if module_class is None or not issubclass(module_class, transformers.PreTrainedModel):
        raise UserError(f"neither diffusers nor transformers has a model {name}")
    settings = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    return module_class(cast(Any, module_class.config_class)(**settings))


def _fill(module: torch.nn.Module) -> None:
    """Small random numbers, and scales near 1: constants would be folded away, and a compiler would see less."""
    tile = torch.empty(TILE).normal_(0, 0.02, generator=torch.Generator().manual_seed(0)).repeat(2)
    start = 0
    for name, parameter in module.named_parameters():
        flat = parameter.view(-1)
        for begin in range(0, len(flat), TILE):
            piece = flat[begin : begin + TILE]
            start = (start + 7919) % TILE  # a prime: tensors of one shape differ
            piece.copy_(tile[start : start + len(piece)])
        if parameter.dim() == 1 and name.endswith("weight"):
            parameter.add_(1.0)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _NoInitialisation(TorchFunctionMode):
    """Leaves out torch.nn.init: minutes for billions of numbers that are overwritten."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
