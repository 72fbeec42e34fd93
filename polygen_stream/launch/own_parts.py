"""What a run takes from outside of the package: checked before any process starts, and written to provenance.json."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from polygen_stream.assets.model_configs import is_model_file, trainable_model_config
from polygen_stream.assets.resources import is_recipe_file
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.python import python_command
from polygen_stream.config import RunConfig
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.registry import CAPTION_SOURCES, REGISTRIES, is_own


def check_own_parts(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Check recipe files, a model config and every "module:attribute" of a config.

    A module is imported by the interpreter whose processes will use it, started as they are: what PYTHONPATH, installed
    packages and the current directory have for this command, they have for them.

    Returns:
        By config key what is of the user's own: file and SHA-256, and of a "module:attribute" its value; {} if
        everything is the package's.

    Raises:
        UserError: A file or module is missing or cannot be used, or open_clip has no model of this name.
    """
    found: dict[str, dict[str, Any]] = {}
    own = [recipe for recipe in config.generators.recipes if is_recipe_file(recipe)]
    if own:
        found["generators.recipes"] = {load_recipe(recipe).name: _described(Path(recipe)) for recipe in own}
    trainable_model_config(config.train.model)
    if is_model_file(config.train.model):
        found["train.model"] = _described(Path(config.train.model))
    for python, parts in _by_interpreter(config).items():
        found |= _checked(python, parts)
    return found


def _described(file: Path) -> dict[str, str]:
    return {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _by_interpreter(config: RunConfig) -> dict[str, dict[str, str]]:
    """{interpreter: {key: module:attribute}} of the config."""
    parts: dict[str, dict[str, str]] = {}
    for registry in REGISTRIES:
        section, _, leaf = registry.key.partition(".")
        value = getattr(getattr(config, section), leaf)
        if is_own(value):
            captioner = config.launch.captioner_python if registry is CAPTION_SOURCES else ""
            python = os.path.abspath(captioner) if captioner else sys.executable
            parts.setdefault(python, {})[registry.key] = value
    return parts


def _checked(python: str, parts: dict[str, str]) -> dict[str, dict[str, Any]]:
    words = [f"{key}={value}" for key, value in parts.items()]
    command = python_command("-m", "polygen_stream.registry.check", *words, python=python)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as problem:
        raise UserError(f"launch.captioner_python = {python!r} cannot be started: {problem.strerror}") from None
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == UserError.exit_code:
        raise UserError(last.removeprefix("error: "))
    raise PolygenError(f"importing {' and '.join(parts.values())} ended the process: {last}")
