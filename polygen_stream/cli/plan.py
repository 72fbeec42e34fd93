"""Commands that plan a run and look at the machine: plan, simulate, doctor, version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polygen_stream import __version__
from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import config_of, console, given_options


def plan(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="Number of GPUs.", show_default=False)],
    rates: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.json",
            help="Rates measured by `make gpu-test` or `bench generators`, `captions`, `trainer`; may be repeated.",
        ),
    ] = None,
    reuse: Annotated[float, typer.Option(min=1.0, help="Uses of each caption.")] = 40.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the run (default: the config's).")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Rendered images of the run, instead of --steps.")] = None,
    node_memory: Annotated[
        float | None,
        typer.Option(min=1, metavar="GB", help="Main memory of a node, to decide where the ring's images lie."),
    ] = None,
) -> None:
    """Propose which GPU does what, with the arithmetic: images/s, reuse, ring, hours, and how long the trainer waits.

    CONFIG is a TOML file or the name of a preset (default: paper). Without --rates, figures from the literature are
    used.
    """
    if steps is not None and images is not None:
        raise UserError(f"--steps {steps} and --images {images} are two budgets: give one")
    from polygen_stream.capacity.proposal import propose
    from polygen_stream.capacity.proposal_view import show_proposal
    from polygen_stream.capacity.rates import find_rates

    config = config_of(context, preset="paper")
    found = find_rates(config, rates or ())
    show_proposal(config, found, propose(config, found, gpus, reuse, steps, images), console(), node_memory)


def simulate(
    context: typer.Context,
    gpus: Annotated[
        str, typer.Option(help="Numbers of GPUs, one simulation each.")
    ] = "1,2,4,8,16,32,64,128,256,512,1024",
    rates: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Measured rates; may be repeated (default: figures from the literature)."),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="GPUs of a node.")] = 8,
    trainer_gpus: Annotated[int, typer.Option(min=1, help="GPUs that train, on a node that has several.")] = 1,
    jitter: Annotated[
        float, typer.Option(min=0, help="Relative standard deviation of step times between nodes.")
    ] = 0.05,
    images: Annotated[int, typer.Option(min=100, help="Images to simulate for each number, at most.")] = 10_000,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Compare this completed run with its own simulation instead.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also write a plot to this file (.png, .svg).")] = None,
) -> None:
    """Simulate a run on 1 to 1,024 GPUs: waiting, images, reuse, waste, hours and GPU-hours.

    The ring, its limiter, the curriculum and the order of production are the real ones; the work of models takes
    simulated time. With several nodes, one is simulated, and every step waits for the slowest of all.
    """
    if against is not None:
        others = [option for option in given_options(context) if option != "--against"]
        if context.args or others:
            raise UserError(
                f"--against {against} takes no config, override or option, and here are "
                f"{', '.join([*others, *context.args])}: the run has its own"
            )
        from polygen_stream.simulate.simulate import simulate_against

        return simulate_against(against)
    from polygen_stream.simulate.simulate import simulate_run

    simulate_run(
        config_of(context), gpus, rates or (), gpus_per_node=gpus_per_node, trainer_gpus=trainer_gpus, jitter=jitter,
        images=images, json_file=json_file, plot=plot,
    )  # fmt: skip


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    imports: Annotated[
        bool, typer.Option("--imports", help="Also import every installed package; takes about a minute.")
    ] = False,
) -> None:
    """Show what this machine can run, and what to install for the rest."""
    from polygen_stream.doctor.doctor import examine
    from polygen_stream.doctor.report import show, to_json

    findings = examine(imports)
    if as_json:
        print(to_json(findings))
    else:
        show(findings, console())


def version() -> None:
    """Print the versions of polygen-stream and of the packages it needs."""
    import importlib.metadata
    import platform

    print(f"polygen-stream {__version__} (Python {platform.python_version()})")
    for name in ("torch", "open_clip_torch", "diffusers", "transformers", "numpy"):
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed")
