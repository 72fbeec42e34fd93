"""The GPU section of `run --dry-run`: processes and memory of each GPU with the arithmetic, and engines to build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.batch_view import batch_lines
from polygen_stream.capacity.gpus import GIB, GpuSpec
from polygen_stream.capacity.memory import FREED, SPARE, STAYS, Need, gpu_needs, loading_gib, problems, together
from polygen_stream.capacity.readiness import engine_builds
from polygen_stream.config import RunConfig
from polygen_stream.launch.process_plan import ProcessPlan


def show_budget(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec], console: Console) -> None:
    """Print the GPUs that a config uses.

    Raises:
        UserError: It does not fit; raised with the numbers, after everything is printed.
    """
    in_turns = config.launch.time_slice_s > 0
    needs = gpu_needs(config, plan, list(gpus))
    if not needs:
        console.print("GPUs:        none is used", soft_wrap=True, markup=False)
        return
    lines = (
        *_memory(needs, gpus, in_turns),
        *_loading(config, needs),
        *batch_lines(config, plan, gpus),
        *_engines(config, plan, gpus),
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    if found := problems(needs, list(gpus), in_turns):
        raise UserError("; ".join(found))


def _memory(needs: Mapping[int, Sequence[Need]], gpus: Sequence[GpuSpec], in_turns: bool) -> Iterator[str]:
    yield f"GPUs:        estimates, never compared with a GPU; {SPARE:.0%} of each are kept spare"
    for index, users in needs.items():
        of = f"{gpus[index].nbytes / GIB:.0f} GiB, {gpus[index].name}" if index < len(gpus) else "not there"
        yield f"  cuda:{index}     {together(list(users), in_turns):6.1f} GiB of {of}{', in turns' if in_turns else ''}"
        for need in users:
            yield f"    {need.process.label:<24} {need.gib:6.1f} GiB"
            yield from (f"      {item.what:<26} {item.gib:6.1f}  {item.how}" for item in need.items)
    if in_turns:
        yield f"  in turns, waiting processes keep up to {_moved_gib(needs):.0f} GiB more in main memory"
    if idle := [gpu.index for gpu in gpus if gpu.index not in needs]:
        yield f"  unused     {', '.join(f'cuda:{index}' for index in idle)}"


def _loading(config: RunConfig, needs: Mapping[int, Sequence[Need]]) -> Iterator[str]:
    """Yield the main memory that renderers on GPUs load their weights through, if there are any."""
    names = [need.process.generator for users in needs.values() for need in users if need.process.generator]
    if gib := [loading_gib(config, name) for name in names]:
        who = f"{len(gib)} renderer{'s' if len(gib) > 1 else ''} loading weights at once"
        yield f"main memory: {who}: up to {sum(gib):.0f} GiB, pages of their files included"


def _moved_gib(needs: Mapping[int, Sequence[Need]]) -> float:
    """Return the GiB that processes other than the trainer move to main memory between their turns."""
    moving = (need for users in needs.values() for need in users if need.process.role != "trainer")
    return sum(item.gib for need in moving for item in need.items if item.what not in (*STAYS, *FREED))


def _engines(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec]) -> Iterator[str]:
    backend = config.generators.backend
    if not backend.startswith("tensorrt"):
        return
    for name, indices, recipes in engine_builds(config, plan, gpus):
        names = " ".join(recipe.name for recipe in recipes)
        devices = ", ".join(f"cuda:{index}" for index in indices)
        yield f"engines:     {names} for {name or 'a GPU that is not there'} ({devices}), {backend}"
