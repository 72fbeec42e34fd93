"""Commands that look into a run: status, inspect, trace, limits; and export of its images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import console, refuse_options

if TYPE_CHECKING:
    from polygen_stream.launch.watch.inspect_client import Inspected
    from polygen_stream.report.samples import CaptionSample

Run = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def status(run: Run, as_json: AsJson = False) -> None:
    """Show how far a run is, from any terminal: step, ETA, rates, processes, events.

    While a run goes on, its supervisor answers within about a second and the run does not wait for it. Of a run that
    has ended, what its folder holds is shown: the last state of its ring, metrics, checkpoints and events.
    """
    import json

    from polygen_stream.launch.watch.status_query import status_of

    found = status_of(run)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from polygen_stream.launch.watch.status_report import show_status

    show_status(found, console())


def inspect(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="RUN|SNAPSHOT", show_default=False, help="A run folder, or a ring.safetensors.")
    ],
    as_json: AsJson = False,
    images: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also write a grid of captions and their images there.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="With --images: captions in the grid.")] = 12,
) -> None:
    """Look into the ring of a running run, or into a snapshot of one.

    While a run goes on, its supervisor answers within about a second and the run does not wait for it. Of a run that
    has ended, the newest ring.safetensors in its folder is shown, which holds no images unless it belongs to a
    checkpoint that needed them.

    Shown are captions by kind and state, images by generator and state, how often captions were drawn, the rate
    limiter's window, ages, waits, and every process: whether it is alive, its work, and the groups that it pins.
    """
    from polygen_stream.launch.watch.inspect_client import open_inspected
    from polygen_stream.launch.watch.inspect_view import show, to_json
    from polygen_stream.ring.inspection import inspect_state

    pick = None
    if images is None:
        refuse_options(context, ["--count"], "is of the grid that --images FILE.png writes: add that, or leave it out")
    else:
        if images.suffix != ".png":
            raise UserError(f"--images {images}: the grid is a PNG file; choose a name ending in .png")
        # Takes seconds to load, in which a busy ring may evict what is to be shown: so before looking at it.
        from polygen_stream.report.samples import pick_samples

        pick = pick_samples
    inspected = open_inspected(path)
    samples = pick(inspected.groups, count, inspected.read) if pick else []
    found = inspect_state(inspected.state, inspected.running)
    if as_json:
        print(to_json(inspected, found))
    else:
        show(inspected, found, console())
    if images:
        _write_grid(inspected, samples, images)


def trace(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="File of the trace.")] = Path("trace.json"),
) -> None:
    """Write what the processes of a run did when, for ui.perfetto.dev or chrome://tracing.

    For a run with launch.trace = true, during the run or after it: what every process did and waited for, captions in
    the ring, backlog by generator, and events.
    """
    from polygen_stream.launch.watch.trace_export import write_trace

    print(f"{write_trace(run, out)} spans in {out}")


def limits(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The folder of a running run.")],
    samples_per_insert: Annotated[float | None, typer.Option(help="Draws per produced caption; 0 = off.")] = None,
    error_buffer: Annotated[
        float | None, typer.Option(help="Draws by which draws and inserts may deviate from that ratio.")
    ] = None,
    min_fill: Annotated[int | None, typer.Option(help="Complete captions before the first step.")] = None,
    max_times_sampled: Annotated[
        int | None, typer.Option(help="Draws after which a caption is no longer drawn; 0 = no limit.")
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(help="Steps after which a caption is no longer drawn; 0 = no limit.")
    ] = None,
) -> None:
    """Change the limits of draws and reuse (ring.*) while a run goes on; without options, print them.

    All of the given limits change together or, where producers and trainer would wait for each other forever, none.
    """
    from dataclasses import asdict

    from polygen_stream.launch.watch.limits import change_limits

    asked = {
        "samples_per_insert": samples_per_insert,
        "error_buffer": error_buffer,
        "min_fill": min_fill,
        "max_times_sampled": max_times_sampled,
        "max_age": max_age,
    }
    holds = change_limits(run, {name: value for name, value in asked.items() if value is not None})
    for name, value in asdict(holds).items():
        print(f"ring.{name} = {value:g}")


def clean(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that ring.storage named.")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove files of completed runs and of no run.")] = False,
    interrupted: Annotated[
        bool,
        typer.Option(
            "--interrupted", help="With --remove: also those of interrupted runs and of run folders not found."
        ),
    ] = False,
) -> None:
    """List the files in which runs with ring.storage = FOLDER keep the images of their rings, and remove them.

    A completed run removes its own. That of an interrupted run is what a resume need not render again, and so may be
    that of a run whose folder is not found. A file in use is never removed.
    """
    from rich.table import Table

    from polygen_stream.launch.ring_files import MAY_BE_NEEDED, REMOVABLE, find_files

    if interrupted and not remove:
        refuse_options(context, ["--interrupted"], "says what --remove removes as well: add that, or leave it out")
    table = Table("file", "GiB", "state", "run", box=None, pad_edge=False)
    for found in find_files(folder):
        gone = remove and found.state in (REMOVABLE | MAY_BE_NEEDED if interrupted else REMOVABLE) and found.remove()
        table.add_row(found.file.name, f"{found.bytes / 2**30:.2f}", "removed" if gone else found.state, found.run)
    if table.row_count:
        console().print(table)
    else:
        print(f"no files of rings in {folder}")


def export(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="New folder for the shards (default: RUN/export).")] = None,
    shards: Annotated[str, typer.Option("--format", help="Format of the shards: webdataset.")] = "webdataset",
    per_shard: Annotated[int, typer.Option(min=1, help="Images in a shard.")] = 10_000,
) -> None:
    """Write a run's captions and images as WebDataset shards that open_clip's training script reads.

    Images are rendered again from the journal, without any language model; a hard negative is a pair of an image and a
    caption like any other. Train on them with: python -m open_clip_train.main --dataset-type webdataset
    --train-data 'DIR/{000000..NNNNNN}.tar'
    """
    if shards != "webdataset":
        raise UserError(f"--format {shards}: the only format is webdataset")
    from polygen_stream.export.webdataset import export as export_run

    out = out or run / "export"
    count = export_run(run, out, per_shard, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{count} images in {out}")


def _write_grid(inspected: Inspected, samples: list[CaptionSample], file: Path) -> None:
    from polygen_stream.report.samples import draw_samples

    if not samples:
        raise UserError(f"{inspected.title} holds no images: leave --images out")
    try:
        draw_samples(samples, inspected.state.spec.generators).savefig(file, dpi=130)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; choose another --images") from error
    print(f"{len(samples)} captions in {file}", file=sys.stderr)
