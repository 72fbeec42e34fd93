"""What a run was started with, and which of its keys may have another value when it is resumed.

The schema says of every key whether it is FIXED, ONWARD or FREE. Free keys are not even looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygen_stream.assets.model_configs import model_name
from polygen_stream.base.errors import UserError
from polygen_stream.config.derived import curriculum_of, learning_rate
from polygen_stream.config.keys import all_keys
from polygen_stream.config.renamed import RENAMED_KEYS
from polygen_stream.config.render import toml_value
from polygen_stream.config.schema import RunConfig

SHOWN = 3  # keys that a message names


@dataclass(frozen=True)
class Change:
    """A key with another value than before. Values are as in JSON."""

    key: str
    before: Any
    now: Any


def settings(config: RunConfig) -> dict[str, Any]:
    """Return the fixed and the onward keys of a config by dotted name, with values as JSON has them.

    Generators and models are there by name, so that their files may be moved.
    """
    generators = config.generators.model_copy(update={"recipes": config.generators.names})
    train = config.train.model_copy(update={"model": model_name(config.train.model)})
    models = {key: _folder_name(getattr(config.captions, key)) for key in ("writer", "editor")}
    captions = config.captions.model_copy(update=models)
    located = config.model_copy(update={"generators": generators, "train": train, "captions": captions})
    found = {name: key.of(located) for name, key in all_keys().items() if key.at_resume != "free"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def fixed_settings(config: RunConfig) -> dict[str, Any]:
    """Return those of the settings that decide what the checkpoints of all nodes of a run were trained on."""
    found = settings(config)
    return {name: found[name] for name in found if all_keys()[name].at_resume == "fixed" and name != "launch.node"}


def allowed_changes(recorded: Mapping[str, Any], config: RunConfig, file: Path) -> list[Change]:
    """Return the changes of a run that is resumed with `config`, all of which are allowed.

    Args:
        recorded: The settings that it was started or last resumed with.
        config: The config as it is now.
        file: Where that is, for the message.

    Raises:
        UserError: A key has another value that decides what is trained. The message names it with both values.
    """
    found = list(_changes(recorded, settings(config)))
    onward = recorded.get("ring.mode") == "throughput"
    refused = [each for each in found if not (onward and all_keys()[each.key].at_resume == "onward")]
    if refused:
        raise UserError(_refusal(refused, file))
    return found


def effects(changes: Sequence[Change], config: RunConfig, step: int) -> list[str]:
    """Return in a line for each change what becomes of a run that goes on at `step` with `config`."""
    return [
        f"{each.key} = {toml_value(each.now)} from step {step} on, {toml_value(each.before)} before"
        f"{_effect_of_steps(each.before, config, step) if each.key == 'train.steps' else ''}"
        for each in changes
    ]


def _changes(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    before = {RENAMED_KEYS.get(name, name): value for name, value in recorded.items()}
    for name, value in now.items():
        default = all_keys()[name].default  # of a key that this release has added, unlike the one that began the run
        then = before.get(name, list(default) if isinstance(default, tuple) else default)
        if then != value:
            yield Change(name, then, value)


def _refusal(refused: Sequence[Change], file: Path) -> str:
    first, *others = refused
    shown = ", ".join(f"{each.key} ({toml_value(each.before)})" for each in others[: SHOWN - 1])
    more = f" and {len(others) - SHOWN + 1} more" if len(others) >= SHOWN else ""
    also = f"; likewise {shown}{more}" if others else ""
    return (
        f"{file}: {first.key} = {toml_value(first.now)}, but the run trains with {toml_value(first.before)}, and this "
        f"key decides what is trained{also}: put {'them' if others else 'it'} back to go on, or begin anew with "
        f"`polygen-stream run {file} --run-dir NEW`"
    )


def _effect_of_steps(before: int, config: RunConfig, step: int) -> str:
    """Say how learning rate and share of hard negatives, which depend on the length of a run, change at `step`."""
    old = config.model_copy(update={"train": config.train.model_copy(update={"steps": before})})
    rates = [learning_rate(step, each.train) for each in (config, old)]
    shares = [curriculum_of(each).share(step) for each in (config, old)]
    return (
        f": the learning rate goes on at {_instead(*rates)}, the share of hard negatives at {_instead(*shares)}; both "
        "end with the last step as before"
    )


def _instead(now: float, before: float) -> str:
    shown, other = f"{now:.3g}", f"{before:.3g}"
    return f"{shown}, as it was" if shown == other else f"{shown} instead of {other}"


def _folder_name(model: str) -> str:
    """Return a language model without the place of its folder."""
    return Path(model).name if model.startswith(("/", "./", "../", "~")) else model
