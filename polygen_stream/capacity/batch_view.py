"""What memory allows of generators.batch, in words: for `run --dry-run` and `plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    if config.generators.backend.startswith("tensorrt") and (smaller := _built_smaller(config, plan, largest)):
        yield f"  engines    are built for fewer ({smaller}): for more raise engine.batch in copies of the recipes too"


def _built_smaller(config: RunConfig, plan: ProcessPlan, images: int) -> str:
    names = dict.fromkeys(
        process.generator for process in plan.with_role("renderer") if index_of(process.device) is not None
    )
    recipes = [load_recipe(config.generators.recipe_of(name)) for name in names if name]
    most = {recipe.name: recipe.engine.batch[2] for recipe in recipes if recipe.engine}
    return ", ".join(f"{name} {count}" for name, count in most.items() if count < images)
