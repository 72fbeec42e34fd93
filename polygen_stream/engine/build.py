"""Build the engines of one generator: record, export, compile, compare with eager, publish."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
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
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Entry:
    """The engines of a recipe under a backend: those in the cache, or new ones.

    Args:
        force: build even if the cache has them.
        say: gets a line of progress now and then.

    Raises:
        UserError: something is missing on this machine or wrong in the recipe.
        ParityError: the engines do not do what eager does; nothing is published.
    """
    backend = get_backend(backend_name)
    key = engine_key(recipe, backend_name, backend)
    with cache.building(key) as staging:
        entry = cache.find(key)  # another process may have built it while this one waited for the lock
        if entry is not None and not force:
            say("found in the cache")
            return entry
        job = _Job(recipe, backend, staging, say)
        files, report = job.run()
        return cache.publish(key, staging, files, report)


class _Job:
    def __init__(self, recipe: Recipe, backend: Backend, folder: Path, say: Callable[[str], None]) -> None:
        assert recipe.engine is not None
        self.recipe, self.spec, self.backend, self.folder, self.say = recipe, recipe.engine, backend, folder, say
        self.seconds: dict[str, float] = {}

    def run(self) -> tuple[dict[str, str], dict[str, Any]]:
        with self.stage("load"):
            generator = load_generator(self.recipe)
        with self.stage("eager"), recording(generator.pipeline, self.spec.parts) as calls:
            pictures = generator.render(parity.CAPTIONS, parity.SEEDS)
        files = {part: self.compile(generator, part, calls[part]) for part in self.spec.parts}
        with self.stage("parity"):
            sessions = {part: self.backend.open(self.folder / name, threads=1) for part, name in files.items()}
            compared = {part: self.compare(generator, part, session, calls[part]) for part, session in sessions.items()}
            compared["pictures"] = self.render(generator, sessions, pictures)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return files, {"seconds": self.seconds, "peak_mib": megabytes, "parity": compared}

    def compile(self, generator: Generator, part: str, calls: list[Inputs]) -> str:
        module = getattr(generator.pipeline, part)
        graph, engine = self.folder / f"{part}.graph.onnx", self.folder / f"{part}{self.backend.suffix}"
        with self.stage(f"export {part}"):
            export_part(part_of(module), module, calls[0], graph)
        with self.stage(f"compile {part}"):
            self.backend.compile(graph, engine, self.profile(calls[0]))
        for path in self.folder.glob(f"{graph.name}*"):
            path.unlink()
        return engine.name

    def profile(self, inputs: Mapping[str, torch.Tensor]) -> Profile:
        per_picture = len(next(iter(inputs.values()))) // len(parity.CAPTIONS)
        fewest, usual, most = self.spec.batch
        return Profile(
            rows=(fewest * per_picture, usual * per_picture, most * per_picture),
            shapes={name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()},
            dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()},
        )

    @torch.inference_mode()
    def compare(self, generator: Generator, name: str, session: Session, calls: list[Inputs]) -> float:
        module = getattr(generator.pipeline, name)
        part, worst = part_of(module), 0.0
        for inputs in calls:
            single = {key: tensor[:1].contiguous() for key, tensor in inputs.items()}
            for rows in (inputs, single):
                expected, got = part.call(module, rows), session.run(rows)
                worst = max(worst, parity.check_part(name, expected, got, self.spec.part_tolerance))
        return worst

    def render(self, generator: Generator, sessions: Mapping[str, Session], expected: np.ndarray) -> float:
        install(generator, sessions)
        got = generator.render(parity.CAPTIONS, parity.SEEDS)
        return parity.check_pictures(expected, got, self.spec.picture_tolerance)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.say(name)
        began = time.monotonic()
        try:
            yield
        except PolygenError:
            raise
        except Exception as problem:
            raise PolygenError(f"{self.recipe.name}: {name}: {type(problem).__name__}: {problem}") from problem
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)
