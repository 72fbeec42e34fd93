"""Build the engines of one generator: record, export, compile, compare with eager, publish."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.base import Backend, Job
from polygen_stream.engine.cache import LOOK, CachedEngine, EngineCache
from polygen_stream.engine.key import EngineKey, engine_key
from polygen_stream.engine.parity import ParityError
from polygen_stream.engine.profile import Profile
from polygen_stream.engine.source import LoadedSource, RandomSource, RenderedSource, Source
from polygen_stream.generators.recipe import EngineSpec, Recipe


def build(
    recipe: Recipe,
    backend_name: str,
    cache: EngineCache,
    targets: Sequence[str | None] = (None,),
    force: bool = False,
    random_weights: bool = False,
    say: Callable[[str], None] = lambda line: None,
    accept: str | None = None,
) -> list[CachedEngine]:
    """Return the engines of a recipe under a backend, one set per target: those in the cache, or new ones.

    Each part is exported once, whatever the number of targets.

    Args:
        recipe: The generator's recipe, with an [engine] table.
        backend_name: As in `generators.backend`.
        cache: Where engines are looked for and published.
        targets: GPU architectures, e.g. "SM89"; None is this machine.
        force: Build even if the cache has them.
        random_weights: Of the real architecture, with nothing learnt; no renderer loads such engines.
        say: Gets a line of progress now and then.
        accept: Why parts that are out of tolerance are published all the same; None: they are not.

    Returns:
        The cache's entries, in the order of the targets.

    Raises:
        UserError: Something is missing on this machine or wrong in the recipe.
        ParityError: The engines do not do what eager does; they are not published. What they render, if they do, is in
            the cache's folder of refused pictures.
    """
    entries = []
    with cache.workspace(f"graphs{os.getpid()}") as folder:
        backends = [get_backend(backend_name, target) for target in targets]
        compares = any(backend.runs_here() for backend in backends)
        kind = RandomSource if random_weights else RenderedSource if compares else LoadedSource
        source: Source = kind(recipe, folder, say, backends[0].device if compares else "cpu")
        for backend in backends:
            key = engine_key(recipe, backend_name, backend, random_weights)
            with cache.building(key) as staging:
                entry = cache.find(key)  # another process may have built it while this one waited for the lock
                if entry is not None and not force:
                    say(f"found in the cache for {key.target}")
                else:
                    base = cache.with_other_weights(key) if source.spec.tensorrt.refit else None
                    try:
                        profiles, report = _build(source, backend, staging, cache.kept, base, accept)
                    except ParityError as problem:
                        raise ParityError(f"{problem}{_refused(cache, key, staging)}") from None
                    entry = cache.publish(key, staging, profiles, backend.suffix, report)
            entries.append(entry)
    return entries


def _refused(cache: EngineCache, key: EngineKey, staging: Path) -> str:
    """Keep the pictures of a build that is not published. Returns where they are, in words."""
    look = staging / LOOK
    return f"; eager's pictures and its own: {cache.keep_refused(key, look)}" if look.exists() else ""


def _build(
    source: Source, backend: Backend, folder: Path, keep: Path, base: CachedEngine | None, accept: str | None
) -> tuple[dict[str, Profile], dict[str, Any]]:
    """Leave a backend's engines in a folder; returns their profiles by part, and the report."""
    began, spec = len(source.stages), source.spec
    profiles: dict[str, Profile] = {}
    for part in spec.parts:
        eight_bits = backend.quantizes and part in spec.tensorrt.quantize
        graph = source.quantized(part) if eight_bits else source.graph(part)
        profiles[part] = source.profile(part, bf16=backend.bf16 and part in spec.bf16)
        with source.stage(f"compile {part}"):
            engine, known = folder / f"{part}{backend.suffix}", base and base.engine(part)
            backend.compile(Job(graph, engine, profiles[part], spec.tensorrt, keep, known))
    compared: dict[str, float] = {}
    beyond: list[str] = []
    if backend.runs_here():
        with source.stage("parity"):
            engines = {part: (folder / f"{part}{backend.suffix}", profile) for part, profile in profiles.items()}
            sessions = backend.open(engines, spec.tensorrt, threads=1)
            compared = {part: source.compare(part, session) for part, session in sessions.items()}
            beyond = _beyond_tolerance(spec, backend, compared)
            compared |= source.compare_pictures(sessions, folder / LOOK)
            if beyond and accept is None:
                raise ParityError(f"{'; '.join(beyond)} (--accept-difference REASON publishes it all the same)")
    stages = source.stages[began:]
    return profiles, {
        "seconds": {stage.name: stage.seconds for stage in stages},
        "cpu_seconds": {stage.name: stage.cpu_seconds for stage in stages},
        "peaks_mib": {stage.name: stage.peak_mib for stage in stages},
        "peak_mib": max(stage.peak_mib for stage in stages),
        "parameters": source.parameters,
        "parity": compared,
        "accepted": _acceptance(accept, beyond) if accept is not None and beyond else None,
        "recipe": source.recipe.reference,  # what a command names it by, to build it again
    }


def _beyond_tolerance(spec: EngineSpec, backend: Backend, compared: Mapping[str, float]) -> list[str]:
    """Return the parts that differ from eager by more than they may, in words."""
    pairs = [(part, difference, _tolerance(spec, backend, part)) for part, difference in compared.items()]
    return [
        f"{part}: differs from eager by {difference:.2e}, allowed are {allowed:.0e}"
        for part, difference, allowed in pairs
        if difference > allowed
    ]


def _acceptance(reason: str, differences: Sequence[str]) -> dict[str, Any]:
    """Return what the manifest says of differences that a person accepted."""
    by, at = f"{getpass.getuser()}@{socket.gethostname()}", time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"by": by, "at": at, "reason": reason, "differences": list(differences)}


def _tolerance(spec: EngineSpec, backend: Backend, part: str) -> float:
    """How far a part's output may be from eager's."""
    if backend.quantizes and part in spec.tensorrt.quantize:
        return spec.tensorrt.quantized_tolerance
    return spec.bf16_tolerance if backend.bf16 and part in spec.bf16 else spec.part_tolerance
