"""Commands that train: run (also --resume) and replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import console, given_options, refuse_options, split_words

if TYPE_CHECKING:
    from polygen_stream.config import RunConfig
    from polygen_stream.launch.process_plan import ProcessPlan


def run(
    context: typer.Context,
    run_dir: Annotated[Path | None, typer.Option(help="New folder for the run (default: runs/<time>-<name>).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print processes, devices and memory; start nothing.")
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the report at 127.0.0.1 while the run goes on.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="shards:DIR", help="Train from shards that --record-shards or `export` wrote; render nothing."
        ),
    ] = None,
    record_shards: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the images as WebDataset shards in this new folder."),
    ] = None,
    keep_ring: Annotated[
        bool, typer.Option("--keep-ring", help="Leave the file of the ring's images when the run is completed.")
    ] = False,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="COUNTxNAME-MEMORY", help="With --dry-run: plan for such GPUs, e.g. 8xH100-80G."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="First fetch weights and build engines that are missing.")
    ] = False,
    accept_license: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="With --prepare: accept a licence that forbids commercial use; may be repeated."
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="N|torchrun|slurm", help="Nodes that train one model, or the launcher that started this on each."
        ),
    ] = None,
    node: Annotated[int | None, typer.Option(min=0, help="With --nodes N: index of this node, from 0.")] = None,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="With --nodes: address of node 0 for the other nodes.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|auto", help="Continue an unfinished run; auto: the newest one under runs/."),
    ] = None,
) -> int:
    """Render and train at once, evaluate, and leave a run folder.

    CONFIG is a TOML file or the name of a preset. Without it the micro preset runs, which needs two CPU cores and no
    download.

    Any key of the config can be overridden, e.g. --train.steps 200. The keys are in the sections captions, generators,
    ring, curriculum, synthesis, train, evaluate and launch: `polygen-stream config` prints all of them with their
    meaning and default, `polygen-stream config train` a section, `polygen-stream config train.lr` one key.
    """
    if resume is not None:
        return _resume(context, resume, dashboard)
    if accept_license and not prepare:
        refuse_options(
            context, ["--accept-license"], "is for weights that --prepare fetches: add that, or leave it out"
        )
    _check_node(nodes, node)
    from polygen_stream.config import MEMORY, load_config
    from polygen_stream.launch.nodes import node_folder, place_node

    config_name, words, overrides = split_words(context)
    typed = [config_name or "micro", *words]
    config = load_config(
        config_name, overrides | _shard_keys(source, record_shards) | ({"ring.keep_file": "true"} if keep_ring else {})
    )
    if config.ring.mode == "replay":
        raise UserError("ring.mode = 'replay' needs the batches of an earlier run: polygen-stream replay RUN")
    if keep_ring and config.ring.storage == MEMORY:
        refuse_options(
            context, ["--keep-ring"], 'is of the file of ring.storage, which is "memory": name a folder there'
        )
    config = place_node(config, nodes, node, rendezvous)
    run_dir = node_folder(config, run_dir)
    if gpus is not None and not dry_run:
        raise UserError(f"--gpus {gpus} is for planning: add --dry-run (a run takes the GPUs that its config names)")
    _check_bank(config)
    if dry_run:
        _show_plan(config, typed, run_dir, gpus, dashboard)
        return 0
    from polygen_stream.capacity import readiness
    from polygen_stream.launch.supervise import supervise

    if prepare:
        readiness.prepare(config, typed, accept_license or ())
    else:
        readiness.refuse(typed, readiness.missing(config, typed, _plan(config, False, there=False)))
    _check_servers(config)
    return supervise(config, run_dir, _plan(config, dashboard))


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The folder of a completed run.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="New folder for the replay (default: runs/<time>-<name>).")
    ] = None,
) -> int:
    """Train once more on the batches of a completed run, without any language model.

    Captions come from its journal, batches from its draw log: the same groups in the same order at every step. Images
    are rendered again from the same seeds. The replay is evaluated and reported like any run.
    """
    from polygen_stream.launch.replay import replay_of
    from polygen_stream.launch.supervise import supervise

    config, fill = replay_of(run)
    return supervise(config, run_dir, fill=fill)


def _resume(context: typer.Context, name: str, dashboard: bool) -> int:
    from polygen_stream.base.run_folder import RunFolder
    from polygen_stream.config import load_config
    from polygen_stream.launch.resume import find_run
    from polygen_stream.launch.supervise import supervise

    others = [option for option in given_options(context) if option not in ("--resume", "--dashboard")]
    if others or context.args:
        raise UserError(
            f"--resume {name} takes no config, override or option but --dashboard, and here are "
            f"{', '.join([*others, *context.args])}: a run continues as it began; edit its config.toml, and "
            "`polygen-stream config KEY` says which keys may change"
        )
    folder = find_run(name)
    config = load_config(RunFolder(folder).config)
    return supervise(config, folder, _plan(config, dashboard), resumed=True)


def _check_node(nodes: str | None, node: int | None) -> None:
    """Refuse a number of nodes without the index of this one, which would start node 0 on every machine."""
    if nodes is not None and nodes.isdecimal() and int(nodes) > 1 and node is None:
        raise UserError(f"--nodes {nodes} without --node: give the index of this node, 0 to {int(nodes) - 1}")


def _shard_keys(source: str | None, record_shards: Path | None) -> dict[str, str]:
    """Return the overrides that --source and --record-shards stand for."""
    keys: dict[str, str] = {}
    if source:
        kind, _, folder = source.partition(":")
        if kind != "shards" or not folder:
            raise UserError(f"--source {source}: write shards:DIR; other sources are set by --captions.source")
        keys |= {"captions.source": kind, "captions.shards": str(Path(folder).absolute())}
    if record_shards:
        keys["launch.record_shards"] = str(record_shards.absolute())
    return keys


def _check_bank(config: RunConfig) -> None:
    from polygen_stream.capacity import readiness
    from polygen_stream.captions.banks.registry import check_bank

    if config.captions.source != "shards" and not readiness.bank_is_absent(config):
        check_bank(config.captions)


def _check_servers(config: RunConfig) -> None:
    """Ask the servers of captions.source = "openai" whether they have the models, if this interpreter can.

    The captioner asks again; it may have an interpreter of its own, with the package that this one lacks.
    """
    from importlib.util import find_spec

    if config.captions.source == "openai" and find_spec("openai") is not None:
        from polygen_stream.captions.sources import language_models

        for model in set(language_models(config.captions)):
            model.close()


def _show_plan(config: RunConfig, typed: list[str], run_dir: Path | None, gpus: str | None, dashboard: bool) -> None:
    """Print what a run would start. Without --gpus it is about this machine, and what a start would refuse is refused.

    typed: the config as the command line names it.
    """
    from polygen_stream.capacity.budget_view import show_budget
    from polygen_stream.capacity.gpus import local_gpus, parse_gpus
    from polygen_stream.evaluate.transfer.folder import tasks_at_the_ends
    from polygen_stream.launch.process_plan_view import show_process_plan
    from polygen_stream.launch.run_setup import choose_run_folder

    plan, folder = _plan(config, dashboard, there=False), choose_run_folder(config, run_dir)
    screen, there = console(), local_gpus() if gpus is None else parse_gpus(gpus)
    besides = tasks_at_the_ends(config.evaluate, config.captions.bank) if gpus is None else ()
    show_process_plan(config, plan, folder, screen, here=gpus is None, tasks_at_the_ends=besides)
    too_large = None
    try:
        show_budget(config, plan, there, screen)
    except UserError as problem:  # an estimate: what is certain comes first
        too_large = problem
    if gpus is None:
        _check_start(config, typed, plan, folder)
    if too_large:
        raise too_large


def _check_start(config: RunConfig, typed: list[str], plan: ProcessPlan, folder: Path) -> None:
    """Refuse what a start would refuse, in its words and its order; nothing is made or loaded."""
    from polygen_stream.capacity import readiness
    from polygen_stream.launch import preflight
    from polygen_stream.launch.own_parts import check_own_parts, check_own_recipes
    from polygen_stream.launch.watch.prometheus import MetricsPage

    readiness.refuse(typed, readiness.missing(config, typed, plan))
    _check_servers(config)
    check_own_parts(config)
    check_own_recipes(config)
    if config.launch.prometheus_port:
        MetricsPage(config.launch.prometheus_port, config.train.steps).close()
    preflight.check_start(config, plan, folder, resumed=False)


def _plan(config: RunConfig, dashboard: bool, there: bool = True) -> ProcessPlan:
    """Build the plan of a run's processes and print the dashboard's address. there: see `build_process_plan`."""
    from polygen_stream.launch.process_plan import build_process_plan, dashboard_port

    port = dashboard_port() if dashboard else None
    if port is not None:
        print(f"dashboard: http://127.0.0.1:{port}/", file=sys.stderr)
    return build_process_plan(config, port, there)
