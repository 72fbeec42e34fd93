"""Load a run config: a TOML file checked against the schema, plus dotted overrides from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from polygen_stream.assets.model_configs import absolute_model
from polygen_stream.assets.resources import absolute_recipe, config_path, is_recipe_file, recipe_name
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.base.home import expand_home
from polygen_stream.base.toml_files import read_toml
from polygen_stream.config.checks import check_possible
from polygen_stream.config.explain import explain_validation
from polygen_stream.config.methods import options_of
from polygen_stream.config.overrides import apply_override, parse_overrides
from polygen_stream.config.schema import MEMORY, RunConfig


def load_config(path: str | Path | None = None, overrides: Mapping[str, str] | Sequence[str] = ()) -> RunConfig:
    """Load, override and check a run config.

    Paths of recipes, of a model config and of evaluation data are made absolute, so that the result means the same in
    any directory: relative paths in a TOML file are relative to that file's folder, those of overrides to the current
    directory.

    Args:
        path: TOML file or preset name; None is the micro preset.
        overrides: {"train.steps": "200"}, or command-line words ("--train.steps", "200" or
            "--train.steps=200"). Values are TOML; quotes of a string and brackets of a list may be left out.

    Returns:
        The frozen config.

    Raises:
        UserError: The file cannot be read, or a key, a value or a combination is refused. The message is one line
            that names the file or option, the key and the remedy.
    """
    file = config_path(path)
    values = read_toml(file, "config")
    _resolve_paths(values, file.parent)
    for dotted, value in options_of(values.get("method")).items():
        _set_default(values, dotted, value)
    origins: dict[str, str] = {}
    pairs = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    pairs = options_of(pairs.get("method")) | dict(pairs)
    for dotted, text in pairs.items():
        apply_override(values, dotted, text)
        origins[dotted] = f"--{dotted}"
    _resolve_paths(values, Path())
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as problem:
        raise UserError(explain_validation(problem, str(file), origins)) from None
    try:
        check_possible(config)
    except UserError as problem:
        raise UserError(f"{file}: {problem}") from None
    return config


def dump_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as TOML; `load_config` of that file gives an equal config."""
    write_atomically(path, tomli_w.dumps(config.model_dump(mode="json")), durable=True)


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths absolute, in `folder`: of recipes, a model config, evaluation data. Other types stay."""
    names = ("train", "generators", "launch", "evaluate", "ring")
    train, generators, launch, evaluate, ring = (_table(values, name) for name in names)
    if isinstance(train.get("model"), str):
        train["model"] = absolute_model(train["model"], folder)
    recipes = generators.get("recipes")
    if isinstance(recipes, list):
        generators["recipes"] = [absolute_recipe(each, folder) if isinstance(each, str) else each for each in recipes]
    # What else refers to a generator does so by its name; a path given there is that of its recipe.
    remote = generators.get("remote_recipes")
    if isinstance(remote, list):
        generators["remote_recipes"] = [_generator_name(each) for each in remote]
    renderers = launch.get("renderers")
    if isinstance(renderers, dict):
        launch["renderers"] = {_generator_name(name): devices for name, devices in renderers.items()}
    tasks, data = evaluate.get("tasks"), evaluate.get("data")
    if isinstance(tasks, list):
        evaluate["tasks"] = [_absolute_task(each, folder) if isinstance(each, str) else each for each in tasks]
    if isinstance(data, str) and data and "://" not in data:
        evaluate["data"] = _absolute(data, folder)
    storage = ring.get("storage")
    if isinstance(storage, str) and storage not in ("", MEMORY):
        ring["storage"] = _absolute(storage, Path())  # beside the run folders, wherever the config lies


def _absolute_task(task: str, folder: Path) -> str:
    """Return KIND:DATASET with an absolute path if DATASET is in `folder`; else it may name a standard dataset."""
    kind, _, dataset = task.partition(":")
    if not dataset or "micro" in (kind, dataset):
        return task
    path = _absolute(dataset, folder)
    return f"{kind}:{path}" if os.path.exists(path) else task


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder.absolute() / expand_home(path))


def _set_default(values: dict[str, Any], dotted: str, value: Any) -> None:
    section, _, leaf = dotted.partition(".")
    table = values.setdefault(section, {})
    if isinstance(table, dict):  # if not, validation refuses it
        table.setdefault(leaf, value)


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section's table to read and change; one of no consequence where the file has none."""
    table = values.get(name)
    return table if isinstance(table, dict) else {}


def _generator_name(value: Any) -> Any:
    return recipe_name(value) if isinstance(value, str) and is_recipe_file(value) else value
