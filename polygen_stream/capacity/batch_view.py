"""What memory and engines allow of generators.batch, in words: for `run --dry-run` and `plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from polygen_stream.capacity.gpus import GpuSpec, index_of
from polygen_stream.capacity.memory import largest_batch
from polygen_stream.config import RunConfig
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import ProcessPlan


def batch_lines(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec]) -> Iterator[str]:
    """Yield how many images a call may have by memory, and which engines are built for fewer; nothing without GPUs."""
    largest, batch = largest_batch(config, plan, list(gpus)), config.generators.batch
    if not largest:
        return
    yield f"batches:     generators.batch = {batch}; by memory up to {largest}, a power of two, fit every GPU"
    if fewer := _listed({name: most for name, (_, most) in engine_batches(config, plan).items() if most < largest}):
        yield f"  engines    are built for fewer ({fewer}): for more raise engine.batch in copies of the recipes too"


def proposed_batch(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec], name: str) -> tuple[int, str] | None:
    """Return the largest generators.batch that fits the GPUs and that the engines are built for, and what limits it.

    Args:
        config: The config, with its roles on the GPUs.
        plan: Its processes.
        gpus: The GPUs.
        name: What they are called.

    Returns:
        Images per call, and the reason in words; None if nothing renders on a GPU, or not even one image fits.
    """
    largest, built = largest_batch(config, plan, list(gpus)), engine_batches(config, plan)
    if not largest:
        return None
    by_memory = f"the largest by memory of {name}, as `run --dry-run`"
    if fewer := {recipe: most for recipe, (_, most) in built.items() if most < largest}:
        batch = min(fewer.values())
        return batch, f"as the engines are built for ({_listed(fewer)}); by memory of {name} up to {largest}"
    if more := {recipe: fewest for recipe, (fewest, _) in built.items() if fewest > largest}:
        return largest, f"{by_memory}; engines are built for more ({_listed(more)}): lower engine.batch in copies"
    return largest, by_memory


def engine_batches(config: RunConfig, plan: ProcessPlan) -> dict[str, tuple[int, int]]:
    """Return by recipe the fewest and most images of a call to its TensorRT engines; {} where nothing is compiled."""
    if not config.generators.backend.startswith("tensorrt"):
        return {}
    names = dict.fromkeys(
        process.generator for process in plan.with_role("renderer") if index_of(process.device) is not None
    )
    recipes = [load_recipe(config.generators.recipe_of(name)) for name in names if name]
    return {recipe.name: (recipe.engine.batch[0], recipe.engine.batch[2]) for recipe in recipes if recipe.engine}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
