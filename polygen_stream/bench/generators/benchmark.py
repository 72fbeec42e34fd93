"""Pictures per second of the generators, eager beside their engines, and where the time goes.

The backends of a generator take turns in one process, batch by batch, so that whatever else the machine does falls on
all of them alike. Processor time is counted beside wall time: it is the steadier one where cores are shared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import psutil
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from polygen_stream.capacity.measured_rates import MeasuredRates
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.parity import CAPTIONS
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.runtime import EngineModule, accelerate
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe
from polygen_stream.train.device import training_device

MIB = 2**20
STAGES = {"text_encoder": "text", "text_encoder_2": "text", "text_encoder_3": "text", "vae": "decode"}


def bench_generators(
    recipes: Sequence[str],
    backends: Sequence[str],
    batches: Sequence[int],
    repeats: int,
    threads: int,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure every generator under every backend that has engines for it, at every batch size.

    Args:
        recipes: Generators, by name or path.
        backends: Backends to compare.
        batches: pictures per pipeline call.
        repeats: measured calls of each kind; one more comes before them and is not counted.
        threads: Compute threads.
        device: Device of the pipelines.
        say: Called with a line of progress.

    Returns:
        {"threads", "device", "results": [one row per generator, backend and batch, see `_Row`], "ensemble",
        "rates": each generator's best (see capacity/measured_rates.py)}; ready for JSON.
    """
    training_device(device, key="--device")
    torch.set_num_threads(threads)
    results = []
    for recipe in map(load_recipe, recipes):
        name, loaded = recipe.name, _load(recipe, backends, threads, device, say)
        for batch in batches:
            say(f"{name}: batch {batch}")
            rows = {backend: _Row() for backend in loaded}
            for repeat in range(repeats + 1):
                for backend, (generator, _) in loaded.items():
                    rows[backend].add(generator, batch, counts=repeat > 0)
            for backend, (_, mib) in loaded.items():
                results.append({"generator": name, "backend": backend, "mib": mib} | rows[backend].summary(batch))
    rates = MeasuredRates(generators=_best(results)).as_json()
    return {"threads": threads, "device": device, "results": results, "ensemble": _ensemble(results), **rates}


def _best(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Pictures per second of each generator under its fastest backend, at its fastest batch size."""
    best: dict[str, float] = {}
    for row in results:
        best[row["generator"]] = max(row["images_per_s"], best.get(row["generator"], 0.0))
    return best


def _load(
    recipe: Recipe, backends: Sequence[str], threads: int, device: str, say: Callable[[str], None]
) -> dict[str, tuple[Generator, int]]:
    """The generator under each backend that has engines, with the memory that loading it took, MiB."""
    loaded, cache = {}, EngineCache()
    for backend in backends:
        say(f"{recipe.name}: loading {backend}")
        before = _used_mib(device)
        generator = load_generator(recipe, device)
        if not accelerate(generator, backend, threads, cache) and backend != "eager":
            logging.warning("%s: %s is left out", recipe.name, backend)
            continue
        generator.render(CAPTIONS, range(len(CAPTIONS)))  # what is made at the first call belongs to loading
        loaded[backend] = generator, _used_mib(device) - before
    return loaded


def _used_mib(device: str) -> int:
    """Resident memory of this process, or on a GPU the memory in use by all processes, in MiB."""
    if device == "cpu":
        return psutil.Process().memory_info().rss // MIB
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) // MIB


class _Row:
    """The measured calls of one generator, backend and batch size."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.stages: dict[str, list[float]] = {}

    def add(self, generator: Generator, batch: int, counts: bool) -> None:
        captions = [CAPTIONS[index % len(CAPTIONS)] for index in range(batch)]
        with _timed_parts(generator) as seconds:
            wall, cpu = _now(), time.process_time()
            generator.render(captions, range(batch))
            wall, cpu = _now() - wall, time.process_time() - cpu
        if counts:
            self.wall.append(wall)
            self.cpu.append(cpu)
            for stage, spent in {**seconds, "other": wall - sum(seconds.values())}.items():
                self.stages.setdefault(stage, []).append(spent)

    def summary(self, batch: int) -> dict[str, Any]:
        """Medians: pictures per second and per processor second, milliseconds of a call, and of its stages."""
        return {
            "batch": batch,
            "images_per_s": round(batch / median(self.wall), 2),
            "images_per_cpu_s": round(batch / median(self.cpu), 2),
            "latency_ms": round(1e3 * median(self.wall), 1),
            "stages_ms": {stage: round(1e3 * median(spent), 1) for stage, spent in self.stages.items()},
        }


def _ensemble(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures per processor second when every generator renders equally many, by backend and batch size.

    Only backends under which every generator was measured.
    """
    generators = {row["generator"] for row in results}
    together = []
    for backend, batch in dict.fromkeys((row["backend"], row["batch"]) for row in results):
        rows = [row for row in results if (row["backend"], row["batch"]) == (backend, batch)]
        if len(rows) == len(generators):
            rate = len(rows) / sum(1 / row["images_per_cpu_s"] for row in rows)
            together.append({"backend": backend, "batch": batch, "images_per_cpu_s": round(rate, 2)})
    return together


@contextmanager
def _timed_parts(generator: Generator) -> Iterator[dict[str, float]]:
    """Seconds spent in text encoders, denoiser and decoder while the block runs."""
    seconds: dict[str, float] = {"text": 0.0, "denoise": 0.0, "decode": 0.0}
    with ExitStack() as stack:
        for name in generator.recipe.engine.parts if generator.recipe.engine else ():
            stack.callback(_clock(generator.pipeline, name, seconds))
        yield seconds


def _clock(pipeline: DiffusionPipeline, name: str, seconds: dict[str, float]) -> Callable[[], None]:
    """Put a clock around a part's method; returns what takes it away again."""
    module, stage = getattr(pipeline, name), STAGES.get(name, "denoise")
    method = module.part.method if isinstance(module, EngineModule) else part_of(module).method
    own, original = module.__dict__.get(method), getattr(module, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = _now()
        try:
            return original(*args, **kwargs)
        finally:
            seconds[stage] += _now() - began

    object.__setattr__(module, method, timed)
    return lambda: object.__delattr__(module, method) if own is None else object.__setattr__(module, method, own)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # kernels run on after the call that started them
    return time.perf_counter()
