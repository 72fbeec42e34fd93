"""The entry point: every command in its group, and `main`.

Commands import what they need when they run, so that `polygen-stream --help` takes a fraction of a second.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from polygen_stream.base.output import discard_unwritable
from polygen_stream.base.python import SAFE_PATH
from polygen_stream.cli import audit, bench, concepts, config, engines, evaluate, plan, run
from polygen_stream.cli import inspect as inspection
from polygen_stream.cli.arguments import WITH_OVERRIDES
from polygen_stream.cli.errors import Explained, explain

Command = Callable[..., Any]

# Groups as --help shows them: name and implementation of each command. A Typer is a command with commands of its own.
GROUPS: dict[str, dict[str, Command | typer.Typer]] = {
    "Run": {"run": run.run, "replay": run.replay, "config": config.config},
    "Inspect": {
        "status": inspection.status,
        "inspect": inspection.inspect,
        "limits": inspection.limits,
        "trace": inspection.trace,
        "export": inspection.export,
        "clean": inspection.clean,
    },
    "Evaluate": {
        "evaluate": evaluate.evaluate,
        "fetch-pictures": evaluate.fetch_pictures,
        "analyze": evaluate.analyze,
        "report": evaluate.report,
        "audit": audit.app,
        "experiment": evaluate.experiment,
    },
    "Generators and engines": {"fetch": engines.fetch, "build-engines": engines.build_engines},
    "Captions": {"concepts": concepts.app},
    "Bench and plan": {
        "bench": bench.app,
        "plan": plan.plan,
        "simulate": plan.simulate,
        "doctor": plan.doctor,
        "version": plan.version,
    },
}
OVERRIDABLE = {"run", "config", "fetch", "plan", "simulate"}


class _InGroups(TyperGroup):
    """Lists commands in the order of GROUPS, those with commands of their own among the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in GROUPS.values() for name in commands]


def _build() -> typer.Typer:
    app = typer.Typer(
        name="polygen-stream",
        cls=_InGroups,
        help="Train CLIP on images that diffusion models render while it trains.",
        no_args_is_help=True,
        add_completion=False,
    )
    for group, commands in GROUPS.items():
        for name, command in commands.items():
            if isinstance(command, typer.Typer):
                _join_lines(command)
                app.add_typer(command, name=name, rich_help_panel=group)
            else:
                settings = WITH_OVERRIDES if name in OVERRIDABLE else {}
                app.command(name, rich_help_panel=group, **settings)(command)
    _join_lines(app)
    return app


def _join_lines(app: typer.Typer) -> None:
    """Join the lines of each paragraph of a help text, which typer would keep, so that it fills the terminal."""
    for info in app.registered_commands:
        paragraphs = (inspect.getdoc(info.callback) or "").split("\n\n")
        info.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


app = _build()


def main() -> None:
    """Run the command line.

    An error that a user can cause ends in one line on stderr and exit code 2, see `polygen_stream.cli.errors`.
    """
    os.environ.update(SAFE_PATH)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal in ASCII, or a path that is no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except Explained as problem:
        code = explain(problem)
    finally:
        unwritten = discard_unwritable(sys.stdout)
    if unwritten:
        code = explain(unwritten)
    sys.exit(code or 0)
