"""The commands and options are a committed list: a change of it is a change for users and has to be deliberate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

from polygen_stream.cli import app

FROZEN = Path(__file__).with_name("commands_and_options.txt")


def described(command, name: str) -> Iterator[str]:
    """A line per command and per option or argument below it, as users type them."""
    takes_overrides = command.context_settings.get("ignore_unknown_options", False)
    yield f"{name}{' [CONFIG] [--section.key VALUE]...' if takes_overrides else ''}"
    for param in sorted(command.params, key=lambda param: (param.param_type_name, param.opts[0])):
        if param.param_type_name == "option":
            value = "" if param.is_flag else " VALUE"
            yield f"    {' '.join(param.opts)}{value}{' (required)' if param.required else ''}"
        else:
            yield f"    {param.metavar or param.name.upper()}"
    if isinstance(command, TyperGroup):
        for inner, each in sorted(command.commands.items()):
            yield from described(each, f"{name} {inner}")


def test_no_command_or_option_is_new_or_gone():
    now = list(described(get_command(app), "polygen-stream"))
    frozen = FROZEN.read_text().splitlines()
    gone, new = [line for line in frozen if line not in now], [line for line in now if line not in frozen]
    assert now == frozen, (
        f"the command line changed (gone: {gone}, new: {new}). If that is meant, change {FROZEN.name} by hand, say so "
        "in the changelog, and enter a renamed option in polygen_stream/config/renamed.py"
    )
