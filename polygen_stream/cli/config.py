"""The command `config`: a resolved config with the meaning of its keys, or what there is to know of one key."""

from __future__ import annotations

from typing import Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import config_of, split_words


def config(
    context: typer.Context,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Print the defaults, which are the text of configs/micro.toml.")
    ] = False,
) -> None:
    """Print a resolved config as TOML: every key with its value and meaning, and its default where it differs.

    CONFIG is a TOML file or the name of a preset (default: micro). With the name of a section, e.g. train, that section
    is printed; with that of a key, e.g. train.lr, its value, meaning, type, bounds and default.
    """
    from polygen_stream.config.keys import all_keys
    from polygen_stream.config.render import render_config, render_defaults, render_key

    if defaults:
        if context.args:
            raise UserError(f"--defaults takes no config, key or override: leave {' '.join(context.args)} out")
        print(render_defaults(), end="")
        return
    wanted = _take_wanted(context.args)
    resolved = config_of(context)
    if wanted is None:
        print(render_config(resolved, _title(context)), end="")
    elif wanted in all_keys():
        print(render_key(all_keys()[wanted], resolved))
    else:
        print(render_config(resolved, names=[wanted]), end="")


def _take_wanted(words: list[str]) -> str | None:
    """Remove the name of a key or a section from a command line and return it; None if there is none.

    Raises:
        UserError: A word begins as a key does, but no key is called so.
    """
    from polygen_stream.config.explain import explain_unknown_key
    from polygen_stream.config.keys import all_keys, sections
    from polygen_stream.config.overrides import positional_indices

    for index in positional_indices(words):
        if words[index] in all_keys() or words[index] in sections():
            return words.pop(index)
        section, dot, leaf = words[index].partition(".")
        if dot and section in sections() and leaf != "toml":
            raise UserError(explain_unknown_key(words[index]))
    return None


def _title(context: typer.Context) -> str:
    name, _, overrides = split_words(context)
    changes = "".join(f" --{key} {value}" for key, value in overrides.items())
    return f"The config {name or 'micro'}{changes and f', with{changes}'}."
