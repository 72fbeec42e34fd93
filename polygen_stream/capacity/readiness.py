"""What a run lacks on this machine, and the command that gets it; `run --prepare` runs these commands."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polygen_stream.assets.layout import missing_of_language_model, missing_of_pipeline
from polygen_stream.assets.resources import SHIPPED_WEIGHTS, model_path
from polygen_stream.base.errors import UserError
from polygen_stream.base.python import python_command
from polygen_stream.capacity.gpus import GpuSpec, index_of, local_gpus, types_of
from polygen_stream.config import RunConfig
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.key import recipe_hash
from polygen_stream.fetch import repositories
from polygen_stream.fetch.fetch import command_of
from polygen_stream.fetch.repositories import generators_on, is_hub_id
from polygen_stream.generators.recipe import Recipe, load_recipe
from polygen_stream.launch.process_plan import ProcessPlan, build_process_plan


@dataclass(frozen=True)
class Missing:
    """Something that a run needs and this machine lacks.

    Attributes:
        what: What is missing.
        advice: What to do where no command helps.
        command: Arguments of `polygen-stream` that get it; (): there is no such command.
        env: Environment of the command.
    """

    what: str
    advice: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        variables = "".join(f"{name}={value} " for name, value in self.env.items())
        return f"{variables}polygen-stream {shlex.join(self.command)}" if self.command else self.advice


def missing(
    config: RunConfig, config_words: Sequence[str], plan: ProcessPlan, gpus: Sequence[GpuSpec] | None = None
) -> list[Missing]:
    """Return what the run lacks, in the order in which to get it.

    Args:
        config: The config.
        config_words: The config as named on the command line, overrides included.
        plan: The processes of the run.
        gpus: GPUs of this machine; None: they are looked up.
    """
    gpus = local_gpus() if gpus is None else gpus
    found = []
    if bank_is_absent(config):
        bank = config.captions.concepts
        build = ("concepts", "build", "--out", bank, "--drawable")
        found.append(Missing(f"captions.concepts {bank}: No such file", command=build))
    lacking = [each for each in repositories(config) if each.lacks]
    if lacking:
        states = ", ".join(f"{each.name} ({each.lacks})" for each in lacking)
        licenses = sorted({each.license for each in lacking if each.non_commercial})
        found.append(Missing(f"weights: {states}", command=command_of(config_words, licenses)))
    for recipe in map(load_recipe, generators_on(config, remote=False)):
        if not recipe.on_hub and recipe.folder is None:
            advice = f"correct weights = ... in {recipe.origin}: a folder with a model_index.json, or a hub id"
            found.append(Missing(f"generator {recipe.name}: no weights at {recipe.source}", advice))
        elif recipe.folder and not recipe.on_hub and (absent := missing_of_pipeline(recipe.folder, recipe.without)):
            advice = f"{recipe.folder} has to be a folder that diffusers' save_pretrained wrote: bring the rest of it"
            found.append(Missing(f"generator {recipe.name}: {absent} is missing in {recipe.folder}", advice))
    found += _language_models_missing(config)
    python = config.launch.captioner_python
    if python and not os.access(python, os.X_OK):
        folders = Path(python).parents  # VENV/bin/python
        advice = "give the path of an interpreter, e.g. .venv-vllm/bin/python"
        if len(folders) > 2:
            advice = f"python3 -m venv {folders[1]} && {python} -m pip install -e '.[vllm]'"
        found.append(Missing(f"launch.captioner_python {python}", advice))
    indices = {index for process in plan.processes if (index := index_of(process.device)) is not None}
    if indices and max(indices) >= len(gpus):
        advice = (
            "run it on such a machine, or see what fits yours: polygen-stream run --dry-run --gpus 1xA100-80G CONFIG"
        )
        found.append(Missing(f"GPUs: the config uses {max(indices) + 1}, this machine has {len(gpus)}", advice))
    return found + engines_missing(config, plan, gpus)


def _language_models_missing(config: RunConfig) -> list[Missing]:
    """Return the language models that are named by a folder, or as the package's own, and are not there."""
    if config.captions.source not in ("transformers", "vllm"):
        return []
    found = []
    for key in ("writer", "editor"):
        name = getattr(config.captions, key)
        absent = None if is_hub_id(name) else missing_of_language_model(Path(model_path(name)))
        if absent:
            shipped = ", ".join(
                f"package:{path.parent.name}" for path in sorted(SHIPPED_WEIGHTS.glob("*/tokenizer.json"))
            )
            advice = f"correct captions.{key}: {shipped}, a folder of transformers, or a hub id"
            found.append(Missing(f"captions.{key} {name}: {absent} is missing in {model_path(name)}", advice))
    return found


def bank_is_absent(config: RunConfig) -> bool:
    """Return whether captions.concepts is the path of a file that does not exist."""
    bank = config.captions.concepts
    return bool(bank) and not bank.startswith(("http://", "https://")) and not Path(bank).exists()


def engines_missing(config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec]) -> list[Missing]:
    """Return the engines that renderers on GPUs need and the cache lacks, by type of GPU.

    On a CPU a renderer without engines starts eager, and logs that.
    """
    backend = config.generators.backend
    if not backend.startswith("tensorrt"):
        return []
    found = []
    for name, indices, recipes in engine_builds(config, plan, gpus):
        first = next((gpu for gpu in gpus if gpu.index == indices[0]), None)
        target = first and (first.capability if backend == "tensorrt-rtx" else f"{first.name} ")
        lacking = [recipe for recipe in recipes if not _has_engine(recipe, backend, target)]
        if lacking:
            place = first and (first.visible_as or str(first.index))
            env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": place} if place else {}
            command = ("build-engines", *(recipe.reference for recipe in lacking), "--backend", backend)
            names = ", ".join(recipe.name for recipe in lacking)
            found.append(Missing(f"{backend} engines for {name or 'the GPU'}: {names}", "", command, env))
    return found


def engine_builds(
    config: RunConfig, plan: ProcessPlan, gpus: Sequence[GpuSpec]
) -> list[tuple[str, list[int], list[Recipe]]]:
    """Return (type of GPU, its indices, the recipes compiled for it) of each type; "" stands for unknown GPUs."""
    on: dict[int, list[str]] = {}
    for process in plan.with_role("renderer"):
        if (index := index_of(process.device)) is not None:
            assert process.generator is not None, "a renderer has a generator"
            on.setdefault(index, []).append(process.generator)
    types = {name: [i for i in indices if i in on] for name, indices in types_of(gpus).items()}
    if unknown := [index for index in on if index >= len(gpus)]:
        types[""] = unknown
    builds = []
    for name, indices in types.items():
        recipes = [
            load_recipe(config.generators.recipe_of(each)) for each in dict.fromkeys(g for i in indices for g in on[i])
        ]
        if compiled := [recipe for recipe in recipes if recipe.engine]:
            builds.append((name, indices, compiled))
    return builds


def _has_engine(recipe: Recipe, backend: str, target: str | None) -> bool:
    """Return whether the cache has an engine of a recipe for a target with this prefix.

    The renderer compares the rest of the key.
    """
    return (
        target is not None
        and target != ""
        and any(
            (entry.key.generator, entry.key.backend, entry.key.recipe) == (recipe.name, backend, recipe_hash(recipe))
            and entry.key.target.startswith(target)
            for entry in EngineCache().entries()
        )
    )


def refuse(config_words: Sequence[str], lacking: Sequence[Missing]) -> None:
    """Print what is missing with its commands, then refuse.

    Raises:
        UserError: Something is missing.
    """
    if not lacking:
        return
    for each in lacking:
        print(f"missing  {each.what}\n    {each}")
    names = "; ".join(each.what for each in lacking)
    rest = "the commands stand above" + (", or: run --prepare" if all(each.command for each in lacking) else "")
    raise UserError(f"{config_words[0]} cannot run here yet: {names}; {rest}")


def prepare(config: RunConfig, config_words: Sequence[str], accepted: Collection[str]) -> None:
    """Get everything that a command can get: bank, weights, engines.

    Args:
        config: The config.
        config_words: The config as named on the command line, overrides included.
        accepted: Licenses that the user accepted.

    Raises:
        UserError: Something is missing that no command gets, or a command failed.
    """
    plan = build_process_plan(config, there=False)
    lacking = missing(config, config_words, plan)
    if beyond := [each for each in lacking if not each.command]:
        refuse(config_words, beyond)
    for each in lacking:
        # Only the licenses that the user accepted are passed on, not every one that the weights need.
        command = command_of(config_words, accepted) if each.command[0] == "fetch" else each.command
        print(f"prepare: polygen-stream {shlex.join(command)}", flush=True)
        done = subprocess.run(python_command("-m", "polygen_stream", *command), env={**os.environ, **each.env})
        if done.returncode:
            raise UserError(f"--prepare stopped: polygen-stream {shlex.join(command)} failed, see above")
    refuse(config_words, missing(config, config_words, plan))
