"""Engines in a diffusers pipeline: a module that answers like the torch module and computes with the engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from polygen_stream.base.errors import UserError
from polygen_stream.engine import torch_compile
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.base import Session
from polygen_stream.engine.cache import CachedEngine, CacheError, EngineCache
from polygen_stream.engine.key import engine_key
from polygen_stream.engine.parts import part_of
from polygen_stream.generators.pipelines import Generator
from polygen_stream.generators.recipe import Recipe


class EngineModule(torch.nn.Module):
    """Stands in for one torch module of a pipeline.

    Pipelines ask their modules for more than a forward pass (config, dtype, a layer's width). Those questions go to the
    torch module itself, whose weights are dropped: it stays as a skeleton on the meta device.
    """

    def __init__(self, module: torch.nn.Module, session: Session) -> None:
        super().__init__()
        self.dtype, self.device = module.dtype, module.device
        self.part, self._session = part_of(module), session
        # Past nn.Module's own registration: a submodule would be moved with the pipeline, and meta tensors cannot be.
        object.__setattr__(self, "_skeleton", module.to("meta"))
        object.__setattr__(self, self.part.method, self._compute)

    def _compute(self, *args: Any, **kwargs: Any) -> Any:
        return self.part.result(self._session.run(self.part.inputs(*args, **kwargs)), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_skeleton"), name)


def install(generator: Generator, sessions: Mapping[str, Session]) -> None:
    """Put sessions in the place of the generator's modules of those names; the torch weights are freed."""
    for name, session in sessions.items():
        setattr(generator.pipeline, name, EngineModule(getattr(generator.pipeline, name), session))
    generator.use_own_stream()
    torch.cuda.empty_cache()  # TensorRT does not allocate from torch's pool, where the weights' memory would stay


def accelerate(generator: Generator, backend_name: str, threads: int, cache: EngineCache | None = None) -> bool:
    """Let a generator compute with what `generators.backend` names; say so in the log.

    Args:
        generator: A loaded generator; its pipeline's modules are replaced or compiled in place.
        backend_name: An engine backend, "torch-compile" or "eager".
        threads: Compute threads of the engines.
        cache: Where engines are looked for; None is the default cache.

    Returns:
        Whether it is anything but eager. It renders in any case.
    """
    if backend_name == torch_compile.NAME:
        parts = torch_compile.compile_parts(generator)
        logging.info("%s renders with torch.compile: %s", generator.recipe.name, ", ".join(parts))
        return bool(parts)
    return backend_name != "eager" and use_engines(generator, backend_name, threads, cache)


def use_engines(generator: Generator, backend_name: str, threads: int, cache: EngineCache | None = None) -> bool:
    """Let a generator compute with its engines, if the cache has them; say so, or why not, in the log.

    Args:
        generator: A loaded generator; its pipeline's modules are replaced in place.
        backend_name: An engine backend.
        threads: Compute threads of the engines.
        cache: Where engines are looked for; None is the default cache.

    Returns:
        Whether engines are in use. Without them the generator stays eager and works all the same.
    """
    name = generator.recipe.name
    try:
        entry = _matching_entry(generator, backend_name, cache or EngineCache())
        sessions = _open(entry, generator.recipe, backend_name, threads)
    except (UserError, CacheError) as problem:
        logging.warning("%s renders eager: %s", name, problem)
        return False
    install(generator, sessions)
    logging.info("%s renders with %s engines: %s", name, backend_name, ", ".join(sessions))
    return True


def _matching_entry(generator: Generator, backend_name: str, cache: EngineCache) -> CachedEngine:
    backend = get_backend(backend_name)
    device = generator.pipeline.device.type
    if device != backend.device:
        raise UserError(f"{backend_name} engines run on {backend.device}, and generators.device is {device}")
    key = engine_key(generator.recipe, backend_name, backend)
    entry = cache.find(key)
    if entry is None:
        raise UserError(cache.explain_miss(key, generator.recipe.reference))
    entry.verify()
    return entry


def _open(entry: CachedEngine, recipe: Recipe, backend_name: str, threads: int) -> Mapping[str, Session]:
    engines = {part: (entry.engine(part), entry.profile(part)) for part in entry.parts}
    return get_backend(backend_name).open(engines, recipe.compiled.tensorrt, threads)
