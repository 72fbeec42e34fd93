"""What commands share: configs with overrides from the command line, and options that have no use together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from polygen_stream.base.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from polygen_stream.config import RunConfig

# Settings of a command that takes overrides; `config_of` reads them.
WITH_OVERRIDES: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "options_metavar": "[CONFIG] [--section.key VALUE]... [OPTIONS]",
}


def console() -> Console:
    """Return a console for tables and status lines."""
    from rich.console import Console

    return Console(highlight=False)


class ConfigWords(NamedTuple):
    """How a command line names a config: CONFIG (None = none), the words behind it, and what they override."""

    name: str | None
    words: list[str]
    overrides: dict[str, str]


def split_words(context: typer.Context) -> ConfigWords:
    """Split CONFIG from the overrides of a command line.

    Raises:
        UserError: A word is neither CONFIG nor an override, or an override names no key.
    """
    from polygen_stream.config import parse_overrides, split_config_name

    name, words = split_config_name(context.args)
    return ConfigWords(name, words, parse_overrides(words, other_options=long_options(context)))


def config_of(context: typer.Context, preset: str | None = None) -> RunConfig:
    """Load the config of a command that takes CONFIG and overrides.

    Args:
        context: Context of the command.
        preset: Preset to take if the command names no config; None = micro.

    Returns:
        The resolved config.

    Raises:
        UserError: See `load_config` and `parse_overrides`.
    """
    from polygen_stream.config import load_config

    found = split_words(context)
    return load_config(found.name or preset, found.overrides)


def given_options(context: typer.Context) -> list[str]:
    """Return the options on the command line, e.g. ["--dry-run"], in the order in which the command declares them."""
    params = [param for param in context.command.params if param.param_type_name == "option"]
    return [param.opts[0] for param in params if _given(context, param.name)]


def refuse_options(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Refuse options that have no use beside what else is on the command line.

    Args:
        context: Context of the command.
        names: Options that have no use, e.g. "--out".
        reason: Why, and what to do: the end of a sentence that begins with the options.

    Raises:
        UserError: One of them is on the command line.
    """
    unused = set(names)
    if found := [option for option in given_options(context) if option in unused]:
        raise UserError(f"{' and '.join(found)} {reason}")


def long_options(context: typer.Context) -> list[str]:
    """Return the names of a command's options without their dashes, e.g. ["dry-run", "help"]."""
    names = [name for param in context.command.get_params(context) for name in param.opts]
    return [name.removeprefix("--") for name in names if name.startswith("--")]


def _given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name) if name else None
    return source is not None and source.name == "COMMANDLINE"
