"""The command line: polygen-stream run | doctor | version."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polygen_stream import __version__
from polygen_stream.config import load_config, parse_overrides
from polygen_stream.errors import PolygenError

app = typer.Typer(
    name="polygen-stream",
    help="Train CLIP on images that diffusion models render while it trains.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG] [--section.key VALUE]... [OPTIONS]",
)
def run(
    context: typer.Context,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="New folder for the run (else runs/<time>-<name>)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, start nothing.")] = False,
) -> int:
    """Render and train at once, evaluate, and leave a run folder.

    CONFIG is a TOML file or the name of a preset; without it, the micro preset runs, which needs two CPU cores
    and no download. Any key of it can be overridden: --train.steps 200.
    """
    config_name, words = _split(context.args)
    config = load_config(config_name, parse_overrides(words, other_options=("run-dir", "dry-run", "help")))
    if dry_run:
        from polygen_stream.launch import run_folder
        from polygen_stream.launch.plan import build_plan
        from polygen_stream.launch.plan_view import show_plan

        show_plan(config, build_plan(config), run_folder.choose(config, run_dir), Console(highlight=False))
        return 0
    from polygen_stream.launch.supervise import supervise

    return supervise(config, run_dir)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Show what this machine can run, and what to install for the rest."""
    from polygen_stream.doctor import examine, show, to_json

    findings = examine()
    if as_json:
        print(to_json(findings))
    else:
        show(findings, Console(highlight=False))
    return 0


@app.command()
def version() -> None:
    """Print the versions of polygen-stream and of what it stands on."""
    print(f"polygen-stream {__version__} (Python {platform.python_version()})")
    for name in ("torch", "open_clip_torch", "diffusers", "transformers", "numpy"):
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed")


def main() -> None:
    """Entry point. Errors a user can cause end in one line on stderr and exit code 2, without a traceback."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as problem:  # unknown command, an option without its value, ...
        _fail(problem.format_message(), 2)
    except PolygenError as problem:
        _fail(str(problem), problem.exit_code)
    sys.exit(code or 0)


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """Take the first word that is neither an option nor an option's value out: it is CONFIG."""
    after_option = False
    for index, word in enumerate(words):
        if not word.startswith("-") and not after_option:
            return word, words[:index] + words[index + 1 :]
        after_option = word.startswith("--") and "=" not in word
    return None, words


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
