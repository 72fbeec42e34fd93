"""`polygen-stream build-engines`: what is built, what is missing, and the processes that build it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.python import python_command
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.gpu import gpu
from polygen_stream.engine.cache import LOOK, CachedEngine, CacheError, EngineCache
from polygen_stream.engine.forecast import forecast, parameters
from polygen_stream.engine.key import EngineKey, engine_key
from polygen_stream.generators.recipe import Recipe, load_recipe

MIB = 2**20


@dataclass(frozen=True)
class BuildRequest:
    """One generator's engines under one backend, for one or several targets, with what the cache has of them."""

    recipe: Recipe
    backend: str
    targets: tuple[str | None, ...]
    keys: tuple[EngineKey, ...]  # one per target
    entries: tuple[CachedEngine | None, ...]  # likewise
    random_weights: bool

    @property
    def complete(self) -> bool:
        """Whether the cache has the engines of every target."""
        return None not in self.entries

    def __str__(self) -> str:
        names = [target for target in self.targets if target]
        weights = " of random weights" if self.random_weights else ""
        return f"{self.recipe.name}: {self.backend} engines{weights}{' for ' if names else ''}{', '.join(names)}"


def build_requests(
    recipes: Sequence[str],
    backend_name: str,
    cache: EngineCache,
    targets: Sequence[str | None] = (None,),
    random_weights: bool = False,
) -> list[BuildRequest]:
    """Look up which engines these generators need under this backend, and which of them the cache has.

    Args:
        recipes: Names of shipped recipes, or paths of recipe files.
        backend_name: As in `generators.backend`.
        cache: Where engines are looked for.
        targets: GPU architectures, e.g. "SM89"; None is this machine.
        random_weights: Ask for engines of the real architecture without the real weights.

    Returns:
        One request per recipe, in the order given.

    Raises:
        UserError: An unknown recipe, backend or target, missing weights, a backend that is not installed.
    """
    if random_weights and tuple(targets) == (None,) and backend_name == "tensorrt-rtx":
        targets = _anywhere()
    orders = []
    for recipe in map(load_recipe, recipes):
        backends = [get_backend(backend_name, target) for target in targets]
        keys = tuple(engine_key(recipe, backend_name, backend, random_weights) for backend in backends)
        entries = tuple(map(cache.find, keys))
        orders.append(BuildRequest(recipe, backend_name, tuple(targets), keys, entries, random_weights))
    return orders


def _anywhere() -> tuple[str | None]:
    """Random weights are there to see what compiles: this machine's GPU, and without one the A100's architecture."""
    try:
        gpu()
    except UserError:
        return ("SM80",)
    return (None,)


def show_plan(orders: Sequence[BuildRequest], cache: EngineCache, console: Console) -> None:
    """What a build would do, with the size and time expected."""
    console.print(f"cache: {cache.root}", soft_wrap=True)
    for each in orders:
        state = "in the cache" if each.complete else f"to build, {_forecast(each, cache)}"
        console.print(f"{each}: {state}", soft_wrap=True)


def _forecast(each: BuildRequest, cache: EngineCache) -> str:
    if each.random_weights:
        from polygen_stream.engine.random_weights import count_parameters  # imports torch and diffusers

        counts = {part: count_parameters(each.recipe, part) for part in each.recipe.compiled.parts}
    else:
        weights = each.recipe.folder
        assert weights is not None, "the engines' key is of them"
        counts = {part: parameters(weights / part) for part in each.recipe.compiled.parts}
    return forecast(each.recipe, each.backend, counts, cache)


def show_entries(cache: EngineCache, console: Console) -> None:
    """Everything in the cache."""
    console.print(f"cache: {cache.root}", soft_wrap=True)
    for entry in cache.entries():
        key = entry.key
        line = f"{key.generator}  {key.backend} {key.backend_version}  {key.target}  {key.digest}  {summary(entry)}"
        console.print(line, soft_wrap=True)


def verify(cache: EngineCache, console: Console) -> None:
    """Compare every file in the cache with what was built.

    Raises:
        CacheError: at least one differs; all were looked at.
    """
    problems = []
    for entry in cache.entries():
        try:
            entry.verify()
            console.print(f"{entry.key.generator} {entry.key.backend} {entry.key.target}: intact", soft_wrap=True)
        except CacheError as problem:
            problems.append(str(problem))
    if problems:
        raise CacheError("; ".join(problems))


def collect(orders: Sequence[BuildRequest], cache: EngineCache, console: Console) -> None:
    """Remove what these orders do not need: engines of older weights, versions, recipes, of the same generators."""
    wanted = {key.digest for each in orders for key in each.keys}
    # Two recipe files of one name are two generators.
    ours = {(each.recipe.name, each.recipe.reference, each.backend) for each in orders}
    others = {e.key.digest for e in cache.entries() if (e.key.generator, e.recipe, e.key.backend) not in ours}
    for folder in cache.collect(wanted | others):
        console.print(f"removed {folder}", soft_wrap=True)


def build_engines(
    orders: Sequence[BuildRequest],
    cache: EngineCache,
    console: Console,
    force: bool = False,
    jobs: int = 1,
    accept: str | None = None,
) -> None:
    """Build what is missing (with `force`: everything), each generator in a process of its own.

    Args:
        orders: What is needed.
        cache: Where it is published.
        console: Gets the progress.
        force: Build what the cache has, too.
        jobs: Generators that are built at once.
        accept: Why parts that are out of tolerance are published all the same; None: they are not.

    Raises:
        PolygenError: a build failed; the others were finished first.
    """
    todo = [each for each in orders if force or not each.complete]
    for each in orders:
        if each not in todo:
            console.print(f"{each} are in the cache", soft_wrap=True)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        errors = [error for error in pool.map(lambda each: _build(each, cache, console, force, accept), todo) if error]
    if errors:
        raise PolygenError("; ".join(errors))


def _build(each: BuildRequest, cache: EngineCache, console: Console, force: bool, accept: str | None) -> str | None:
    """Run one worker to its end. Returns its error, or None."""
    name, began = each.recipe.name, time.monotonic()
    command = python_command("-m", "polygen_stream.engine.worker")
    command += ["--recipe", each.recipe.reference, "--backend", each.backend]
    command += [word for target in each.targets if target for word in ("--target", target)]
    command += ["--cache", str(cache.root), *(["--force"] if force else [])]
    command += ["--random-weights"] if each.random_weights else []
    command += ["--accept-difference", accept] if accept is not None else []
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    output, errors = worker.stdout, worker.stderr
    assert output is not None and errors is not None, "both are pipes"
    try:
        with ThreadPoolExecutor(max_workers=1) as reader:  # a full pipe would stop the worker
            complaints = reader.submit(errors.read)
            for line in output:
                console.print(f"{name}: {time.monotonic() - began:4.0f} s  {line.rstrip()}", soft_wrap=True)
            words = complaints.result().strip().splitlines()
        code = worker.wait()
    except BaseException:
        worker.kill()  # its result would be lost, and the cache survives the kill
        raise
    if code:
        last = words[-1].removeprefix("error: ") if words else f"ended with exit code {code}"
        return f"{name}: {last}"
    for key in each.keys:
        entry = cache.find(key)
        if entry is None:
            return f"{name}: weights or versions changed while the engines were built: run it again"
        console.print(f"{name}: {key.backend} {key.target}: {summary(entry)}", soft_wrap=True)
        if advice := _look_at(entry, each.recipe):
            console.print(f"{name}: {advice}", soft_wrap=True)
    return None


def _look_at(entry: CachedEngine, recipe: Recipe) -> str | None:
    """Return which pictures to look at, if they differ from eager's by more than the recipe expects."""
    difference = entry.report["parity"].get("pictures", 0.0)
    if difference <= recipe.compiled.picture_tolerance:
        return None
    return (
        f"its pictures differ from eager's by {difference:.2f} grey levels, {recipe.compiled.picture_tolerance:g} were "
        f"expected: look at {entry.folder / LOOK}, eager's are above its own"
    )


def summary(entry: CachedEngine) -> str:
    """Size, time, memory and parity of an entry in one line."""
    report = entry.report
    if entry.key.weights.startswith("random-"):
        same = "of random weights: it shows that they compile, and no renderer loads them"
    elif report["parity"]:
        same = f"pictures within {report['parity']['pictures']:.2f} grey levels of eager"
    else:
        same = "never compared with eager (it does not run on the machine that built it)"
    seconds = sum(report["seconds"].values())
    size = f"{entry.nbytes / MIB:.0f} MiB, built in {seconds:.0f} s with {report['peak_mib']} MiB of memory, {same}"
    accepted = report.get("accepted")
    if not accepted:
        return size
    return f"{size}; {'; '.join(accepted['differences'])}; accepted by {accepted['by']}: {accepted['reason']}"
