"""Commands that get generators ready: fetch and build-engines."""

from __future__ import annotations

from typing import Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import config_of, console, given_options, refuse_options


def fetch(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what is needed; download nothing.")] = False,
    accept_license: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Accept a licence that forbids commercial use, by name; may be repeated."),
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="On a machine of generators.remote: only what renders there.")
    ] = False,
) -> None:
    """Download the weights that a config needs on this machine; afterwards everything runs offline.

    CONFIG is a TOML file or the name of a preset (default: micro). Repositories, revisions, sizes, licences and gates
    are listed from recipes alone. Each file is downloaded once: an interrupted download keeps the files that arrived.
    HF_HOME is where to, HF_TOKEN the account that asks.
    """
    from polygen_stream.fetch import fetch as command

    config = config_of(context)
    if remote and not config.generators.remote:
        raise UserError("--remote is for machines that render for others, but generators.remote = '': leave it out")
    if dry_run:
        command.show(config, console(), remote)
    else:
        command.fetch(config, accept_license or (), console(), remote)


def build_engines(
    context: typer.Context,
    generators: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE]...",
            help="Recipes, e.g. micro/sd15 or ./my_sd.toml (default: those of the micro preset).",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Compiler (default: the micro preset's).")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="With --backend tensorrt-rtx: GPU architectures to build ahead of time for, e.g. SM80,SM89."),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Compile the architecture only: no download, nothing to render.")
    ] = False,
    accept_difference: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Publish parts out of tolerance, too; the manifest says who and why."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again what the cache has.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Generators to build at once.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be built, with size and time; build nothing.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Print what the cache has; build nothing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the cache's files with what was built; build nothing.")
    ] = False,
    collect: Annotated[
        bool, typer.Option("--collect", help="Remove these generators' engines of other weights or versions.")
    ] = False,
) -> None:
    """Compile generators into engines that renderers load; what the cache has is not built again.

    The cache is the folder POLYGEN_STREAM_CACHE, else polygen-stream in the user's cache folder.
    """
    _check_options(context, generators or [], accept_difference)
    from polygen_stream.engine import build_engines as command
    from polygen_stream.engine.cache import EngineCache

    cache = EngineCache()
    if show_list:
        return command.show_entries(cache, console())
    if verify:
        return command.verify(cache, console())
    from polygen_stream.config import load_config

    defaults = load_config().generators
    targets = target.split(",") if target else [None]
    requests = command.build_requests(
        generators or defaults.recipes, backend or defaults.backend, cache, targets, random_weights
    )
    if dry_run:
        return command.show_plan(requests, cache, console())
    if collect:
        return command.collect(requests, cache, console())
    return command.build_engines(requests, cache, console(), force, jobs, accept_difference)


def _check_options(context: typer.Context, generators: list[str], accept: str | None) -> None:
    """Refuse two modes at once, and options of a build beside a mode that builds nothing."""
    given = given_options(context)
    modes = [option for option in given if option in ("--dry-run", "--list", "--verify", "--collect")]
    if len(modes) > 1:
        raise UserError(f"{' and '.join(modes)} exclude each other: give one of them")
    if modes in (["--list"], ["--verify"]):
        others = [*generators, *(option for option in given if option not in modes)]
        if others:
            raise UserError(
                f"{modes[0]} is about the whole cache and takes nothing else: leave {', '.join(others)} out"
            )
    if modes == ["--collect"]:
        refuse_options(context, ["--force", "--jobs"], "cannot be used with --collect, which builds nothing")
    if modes:
        refuse_options(context, ["--accept-difference"], f"cannot be used with {modes[0]}, which builds nothing")
    if accept is not None and not accept.strip():
        raise UserError("--accept-difference wants a reason in words: it is what the engines' manifest will say")
