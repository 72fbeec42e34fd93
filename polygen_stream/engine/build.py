"""Build the engines of one generator: record, export, compile, compare with eager, publish."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polygen_stream.engine import parity
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.base import Backend, Session
from polygen_stream.engine.cache import EngineCache, Entry
from polygen_stream.engine.export import export_part
from polygen_stream.engine.key import engine_key
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.profile import Profile
from polygen_stream.engine.record import Inputs, recording
from polygen_stream.engine.runtime import install
from polygen_stream.errors import PolygenError
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import Recipe


def build(
    recipe: Recipe,
    backend_name: str,
    cache: EngineCache,
    targets: Sequence[str | None] = (None,),
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Entry]:
    """The engines of a recipe under a backend, one set per target: those in the cache, or new ones.

    Each part is exported once, whatever the number of targets.

    Args:
        targets: GPU architectures, e.g. "SM89"; None is this machine.
        force: build even if the cache has them.
        say: gets a line of progress now and then.

    Raises:
        UserError: something is missing on this machine or wrong in the recipe.
        ParityError: the engines do not do what eager does; they are not published.
    """
    entries = []
    with cache.workspace(f"graphs{os.getpid()}") as folder:
        backends = [get_backend(backend_name, target) for target in targets]
        device = backends[0].device if any(backend.runs_here() for backend in backends) else "cpu"
        source = _Source(recipe, device, folder, say)
        for backend in backends:
            key = engine_key(recipe, backend_name, backend)
            with cache.building(key) as staging:
                entry = cache.find(key)  # another process may have built it while this one waited for the lock
                if entry is not None and not force:
                    say(f"found in the cache for {key.target}")
                else:
                    profiles, report = _build(source, backend, staging)
                    entry = cache.publish(key, staging, profiles, backend.suffix, report)
            entries.append(entry)
    return entries


def _build(source: _Source, backend: Backend, folder: Path) -> tuple[dict[str, Profile], dict[str, Any]]:
    """Leave a backend's engines in a folder; returns their profiles by part, and the report."""
    began, spec = len(source.stages), source.spec
    profiles = {part: source.profile(part, bf16=backend.bf16 and part in spec.bf16) for part in spec.parts}
    for part, profile in profiles.items():
        graph = source.graph(part)
        with source.stage(f"compile {part}"):
            backend.compile(graph, folder / f"{part}{backend.suffix}", profile)
    compared: dict[str, float] = {}
    if backend.runs_here():
        with source.stage("parity"):
            sessions = {
                part: backend.open(folder / f"{part}{backend.suffix}", profile, threads=1)
                for part, profile in profiles.items()
            }
            for part, session in sessions.items():
                tolerance = spec.bf16_tolerance if profiles[part].bf16 else spec.part_tolerance
                compared[part] = source.compare(part, session, tolerance)
            compared["pictures"] = source.compare_pictures(sessions)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return profiles, {"seconds": dict(source.stages[began:]), "peak_mib": megabytes, "parity": compared}


class _Source:
    """The eager generator, what it was seen to compute, and its graphs: each made when first asked for."""

    def __init__(self, recipe: Recipe, device: str, folder: Path, say: Callable[[str], None]) -> None:
        assert recipe.engine is not None
        self.recipe, self.spec, self.device, self.folder, self.say = recipe, recipe.engine, device, folder, say
        self.stages: list[tuple[str, float]] = []  # name, seconds
        self._generator: Generator | None = None
        self._calls: dict[str, list[Inputs]] = {}
        self._pictures: np.ndarray | None = None

    @property
    def generator(self) -> Generator:
        if self._generator is None:
            with self.stage("load"):
                self._generator = load_generator(self.recipe, self.device)
            with self.stage("eager"), recording(self._generator.pipeline, self.spec.parts) as calls:
                self._pictures = self._generator.render(parity.CAPTIONS, parity.SEEDS)
            self._calls = calls
        return self._generator

    def graph(self, part: str) -> Path:
        """The part's ONNX file."""
        path = self.folder / f"{part}.onnx"
        if not path.exists():
            module = getattr(self.generator.pipeline, part)
            with self.stage(f"export {part}"):
                export_part(part_of(module), module, self._calls[part][0], path)
        return path

    def profile(self, part: str, bf16: bool) -> Profile:
        assert self.generator is not None
        inputs: Mapping[str, torch.Tensor] = self._calls[part][0]
        per_picture = len(next(iter(inputs.values()))) // len(parity.CAPTIONS)
        fewest, usual, most = self.spec.batch
        return Profile(
            rows=(fewest * per_picture, usual * per_picture, most * per_picture),
            shapes={name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()},
            dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()},
            bf16=bf16,
        )

    @torch.inference_mode()
    def compare(self, name: str, session: Session, tolerance: float) -> float:
        """A part's largest difference from eager, in the recorded calls and in a row of each."""
        module = getattr(self.generator.pipeline, name)
        part, worst = part_of(module), 0.0
        for inputs in self._calls[name]:
            single = {key: tensor[:1].contiguous() for key, tensor in inputs.items()}
            for rows in (inputs, single):
                worst = max(worst, parity.check_part(name, part.call(module, rows), session.run(rows), tolerance))
        return worst

    def compare_pictures(self, sessions: Mapping[str, Session]) -> float:
        compiled = load_generator(self.recipe, self.device)
        install(compiled, sessions)
        got = compiled.render(parity.CAPTIONS, parity.SEEDS)
        return parity.check_pictures(self._pictures, got, self.spec.picture_tolerance)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what happens, and how long it took; an exception of a library gets the stage's name."""
        self.say(name)
        began = time.monotonic()
        try:
            yield
        except PolygenError:
            raise
        except Exception as problem:
            logging.exception("%s: %s", self.recipe.name, name)
            raise PolygenError(f"{self.recipe.name}: {name}: {type(problem).__name__}: {problem}") from None
        finally:
            self.stages.append((name, round(time.monotonic() - began, 2)))
