"""`polygen-stream build-engines`: what is built, what is missing, and the processes that build it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console

from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.cache import EngineCache, Entry
from polygen_stream.engine.key import EngineKey, engine_key
from polygen_stream.errors import PolygenError
from polygen_stream.generators.recipe import Recipe, load_recipe

MIB = 2**20


@dataclass(frozen=True)
class Order:
    """One generator's engines under one backend, with what the cache has of them."""

    recipe: Recipe
    backend: str
    key: EngineKey
    entry: Entry | None


def orders(recipes: Sequence[str], backend_name: str, cache: EngineCache) -> list[Order]:
    """What has to be there for these generators under this backend.

    Raises:
        UserError: an unknown recipe or backend, missing weights, a backend that is not installed.
    """
    backend = get_backend(backend_name)
    found = []
    for recipe in map(load_recipe, recipes):
        key = engine_key(recipe, backend_name, backend)
        found.append(Order(recipe, backend_name, key, cache.find(key)))
    return found


def build_engines(
    wanted: Sequence[Order], cache: EngineCache, console: Console, force: bool = False, jobs: int = 1
) -> None:
    """Build what is missing (with `force`: everything), each generator in a process of its own.

    Raises:
        PolygenError: a build failed; the others were finished first.
    """
    todo = [order for order in wanted if force or order.entry is None]
    for order in wanted:
        if order not in todo:
            console.print(f"{order.recipe.name}: {order.backend} engines are in the cache", soft_wrap=True)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        errors = [error for error in pool.map(lambda order: _build(order, cache, console, force), todo) if error]
    if errors:
        raise PolygenError("; ".join(errors))


def _build(order: Order, cache: EngineCache, console: Console, force: bool) -> str | None:
    """Run one worker to its end. Returns its error, or None."""
    name, began = order.recipe.name, time.monotonic()
    command = [sys.executable, "-m", "polygen_stream.engine.worker", "--recipe", name, "--backend", order.backend]
    command += ["--cache", str(cache.root), *(["--force"] if force else [])]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    try:
        with ThreadPoolExecutor(max_workers=1) as reader:  # a full pipe would stop the worker
            complaints = reader.submit(worker.stderr.read)
            for line in worker.stdout:
                console.print(f"{name}: {time.monotonic() - began:4.0f} s  {line.rstrip()}", soft_wrap=True)
            words = complaints.result().strip().splitlines()
        code = worker.wait()
    except BaseException:
        worker.kill()  # a build that nobody waits for is worth nothing, and the cache survives it
        raise
    if code:
        last = words[-1].removeprefix("error: ") if words else f"ended with exit code {code}"
        return f"{name}: {last}"
    entry = cache.find(order.key)
    if entry is None:
        return f"{name}: the engines were built for other weights or versions than asked for: run it again"
    console.print(f"{name}: {summary(entry)}", soft_wrap=True)
    return None


def summary(entry: Entry) -> str:
    """Size, time, memory and parity of an entry in one line."""
    report = entry.report
    return (
        f"{entry.nbytes / MIB:.0f} MiB, {sum(report['seconds'].values()):.0f} s, {report['peak_mib']} MiB of memory, "
        f"pictures within {report['parity']['pictures']:.2f} grey levels of eager"
    )
