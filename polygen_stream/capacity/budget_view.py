"""What `run --dry-run` says of GPUs: who sits where, what that takes, with the arithmetic, and the engines to build."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from polygen_stream.base.errors import UserError
from polygen_stream.capacity.gpus import GIB, GpuSpec
from polygen_stream.capacity.memory import SPARE, STAYS, gpu_needs, problems, together
from polygen_stream.capacity.readiness import engine_builds
from polygen_stream.config import RunConfig
from polygen_stream.launch.process_plan import ProcessPlan


def show_budget(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec], console: Console) -> None:
    """Print the GPUs that the config uses.

    Raises:
        UserError: it does not fit; with the numbers, after everything is printed.
    """

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    in_turns = config.launch.time_slice_s > 0
    needs = gpu_needs(config, plan, list(gpus))
    if not needs:
        say("GPUs:        none is used")
        return
    say(f"GPUs:        estimates, never compared with a GPU; {SPARE:.0%} of each are kept spare")
    for index, users in needs.items():
        of = f"{gpus[index].nbytes / GIB:.0f} GiB, {gpus[index].name}" if index < len(gpus) else "not there"
        say(f"  cuda:{index}     {together(users, in_turns):6.1f} GiB of {of}{', in turns' if in_turns else ''}")
        for need in users:
            say(f"    {need.process.label:<24} {need.gib:6.1f} GiB")
            for item in need.items:
                say(f"      {item.what:<26} {item.gib:6.1f}  {item.how}")
    if in_turns:
        waiting = sum(item.gib for users in needs.values() for need in users for item in need.items
                      if need.process.role != "trainer" and item.what not in STAYS)  # fmt: skip
        say(f"  in turns, what waits lies in main memory: up to {waiting:.0f} GiB more")
    idle = [gpu.index for gpu in gpus if gpu.index not in needs]
    if idle:
        say(f"  unused     {', '.join(f'cuda:{index}' for index in idle)}")
    if config.generators.backend.startswith("tensorrt"):
        for name, indices, recipes in engine_builds(config, plan, gpus):
            names = " ".join(recipe.name for recipe in recipes)
            on = ", ".join(f"cuda:{index}" for index in indices)
            say(f"engines:     {names} for {name or 'a GPU that is not there'} ({on}), {config.generators.backend}")
    if found := problems(needs, list(gpus), in_turns):
        raise UserError("; ".join(found))
