"""What a run takes from outside of the package: checked before any process starts, and written to provenance.json."""

from __future__ import annotations

import hashlib
import importlib.util
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
from polygen_stream.base.text_files import decode_text
from polygen_stream.config import RunConfig
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.registry import CAPTION_SOURCES, POLICIES, REGISTRIES, is_own


def check_own_parts(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Check recipe files, a model config and every "module:attribute" of a config.

    A module is imported by the interpreter whose processes will use it, started as they are: what PYTHONPATH, installed
    packages and the current directory have for this command, they have for them.

    Returns:
        By config key what is of the user's own: file and SHA-256, the text of a recipe or a model config, and of a
        "module:attribute" its value; {} if everything is the package's.

    Raises:
        UserError: A file or module is missing or cannot be used, a generator renders smaller images than the ring's, or
            open_clip has no model of this name.
    """
    found: dict[str, dict[str, Any]] = {}
    if config.captions.source != "shards":
        for recipe in config.generators.recipes:
            load_recipe(recipe).check_size(config.ring.image_size)
    own = [recipe for recipe in config.generators.recipes if is_recipe_file(recipe)]
    if own:
        found["generators.recipes"] = {load_recipe(recipe).name: _described(Path(recipe)) for recipe in own}
    trainable_model_config(config.train.model)
    _check_packages(config)
    if is_model_file(config.train.model):
        found["train.model"] = _described(Path(config.train.model))
    for python, parts in _by_interpreter(config).items():
        found |= _checked(python, parts)
    return found


def check_own_recipes(config: RunConfig) -> None:
    """Look up the classes of diffusers that recipes of the user's own name, as their renderers will.

    Raises:
        UserError: diffusers has no such class, or the class no such part or argument.
    """
    own = [recipe for recipe in config.generators.recipes if is_recipe_file(recipe)]
    if own and config.captions.source != "shards":
        ended_well(python_command("-m", "polygen_stream.generators.check", *own), "looking up recipes")


def _check_packages(config: RunConfig) -> None:
    """Refuse a caption source whose package its interpreter lacks, and remote generators without Ray.

    Nothing is imported. An interpreter of the captioner's own is asked in a process.
    """
    captions, generators = config.captions, config.generators
    package = {"vllm": "vllm", "openai": "openai"}.get(captions.source)
    if package and not _has_package(config.launch.captioner_python, package):
        raise UserError(
            f"captions.source = {captions.source!r} needs the {package} package, which the captioner's interpreter "
            f"does not have: pip install 'polygen-stream[{package}]'"
        )
    if generators.remote and captions.source != "shards" and not _has_package("", "ray"):
        raise UserError(f"generators.remote = {generators.remote!r} needs Ray: pip install 'polygen-stream[ray]'")


def _has_package(python: str, package: str) -> bool:
    """Whether an interpreter has a package; of one that cannot be started, which is refused elsewhere, nothing is said.

    python: "" = this one.
    """
    if not python:
        return importlib.util.find_spec(package) is not None
    question = f"import importlib.util, sys; sys.exit(0 if importlib.util.find_spec({package!r}) else 3)"
    try:
        command = python_command("-c", question, python=os.path.abspath(python))
        return subprocess.run(command, capture_output=True).returncode != 3
    except OSError:
        return True


def _described(file: Path) -> dict[str, str]:
    """Return a file that a run is made of, with its text: an edit after the start does not lose what was run."""
    content = file.read_bytes()
    text = decode_text(content, f"the file {file}")
    return {"file": str(file), "sha256": hashlib.sha256(content).hexdigest(), "text": text}


def _by_interpreter(config: RunConfig) -> dict[str, dict[str, str]]:
    """{interpreter: {key: module:attribute}} of the config."""
    parts: dict[str, dict[str, str]] = {}
    for registry in REGISTRIES:
        section, _, leaf = registry.key.partition(".")
        value = getattr(getattr(config, section), leaf)
        if is_own(value):
            captioner = config.launch.captioner_python if registry in (CAPTION_SOURCES, POLICIES) else ""
            python = os.path.abspath(captioner) if captioner else sys.executable
            parts.setdefault(python, {})[registry.key] = value
    return parts


def _checked(python: str, parts: dict[str, str]) -> dict[str, dict[str, Any]]:
    words = [f"{key}={value}" for key, value in parts.items()]
    command = python_command("-m", "polygen_stream.registry.check", *words, python=python)
    try:
        said = ended_well(command, f"importing {' and '.join(parts.values())}")
    except OSError as problem:
        raise UserError(f"launch.captioner_python = {python!r} cannot be started: {problem.strerror}") from None
    return json.loads(said.splitlines()[-1])


def ended_well(command: list[str], doing: str) -> str:
    """Run a check in a process of its own and return what it printed.

    Args:
        command: Its command line.
        doing: What it does, for the message.

    Raises:
        UserError: As the check raised it.
        PolygenError: The process ended in another way.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == UserError.exit_code:
        raise UserError(last.removeprefix("error: "))
    raise PolygenError(f"{doing} ended the process: {last}")
