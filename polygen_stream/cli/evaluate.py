"""Commands that score models and runs: evaluate, analyze, report, experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import console, refuse_options


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            show_default=False,
            help="A checkpoint folder, a run folder, or the name of an open_clip model.",
        ),
    ],
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Weights of that open_clip model: a file, or a tag that open_clip downloads."
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(metavar="KIND[:DATASET],...", help="Tasks to score, see above.")] = "micro",
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of standard datasets; for WebDatasets also a URL."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the model: cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images; 0 = none beside this one.")] = 0,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the scores to this file.")] = None,
) -> None:
    """Score a checkpoint, or any open_clip model, on standard datasets or your own.

    Kinds that take a DATASET: zero_shot, linear_probe and few_shot (a folder CLASS/image, or train/ and test/ of such;
    or a name that clip_benchmark knows, e.g. cifar10, imagenet1k, wds/vtab/pets; or fashion_mnist, or micro), retrieval
    (a TSV of image and caption; or mscoco_captions, flickr30k, flickr8k), edits (a TSV of image, caption and negative),
    pairs (a TSV of image_0, caption_0, image_1, caption_1), transfer (the folder of fetch-pictures, if it is not the
    default one). Kinds without: micro, sugarcrepe, sugarcrepe_pp (images: COCO's val2017 in DIR), sugarcrepe_pp_tot
    (needs no images).
    """
    names = [name for name in tasks.split(",") if name]
    if not names:
        raise UserError(f"--tasks {tasks!r} names none: e.g. micro, or zero_shot:FOLDER (see --help)")
    from polygen_stream.evaluate.evaluate_model import evaluate as run_evaluation

    run_evaluation(model, pretrained, names, data, device, threads, workers, as_json, console())


def fetch_pictures(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            show_default=False,
            help="A new folder for the pictures, CLASS/picture; by default POLYGEN_STREAM_PICTURES, else"
            " polygen-stream/pictures in the user's cache folder.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List packages and licences; download nothing.")] = False,
) -> None:
    """Make the pictures of the task transfer: the micro world's 24 things as others drew them.

    They are in packages of icons and emoji that npm downloads, each at one version, whose checksum is compared.
    Licences are in FOLDER/LICENSES.md. FOLDER can be copied to a machine without a network. When the default folder is
    there, runs in the micro world score their untrained and their final model on it.
    """
    from polygen_stream.evaluate.transfer import fetch
    from polygen_stream.evaluate.transfer.folder import default_folder

    if dry_run:
        fetch.show_packages(fetch.read_picture_list(), console())
    else:
        fetch.fetch_pictures(folder or default_folder(), console())


def analyze(
    context: typer.Context,
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")],
    captions: Annotated[int, typer.Option(min=8, help="Captions of the run to render again.")] = 48,
    seeds: Annotated[int, typer.Option(min=2, help="Images of each caption by each generator.")] = 6,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="CLIP that judges recognizability, named as `evaluate` names it."),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(metavar="FILE", help="With --reference: weights of that open_clip model.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of real images, whose spectrum is shown beside.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Measure a run's generators: recognizability, diversity, spectra; and whether its model can tell them apart.

    Some of the run's captions are rendered again by every generator, several times each. The figures go into
    RUN/analysis.json, which `polygen-stream report` shows and, over several runs, correlates with Delta_MTL.
    """
    if reference is None:
        refuse_options(context, ["--pretrained"], "has no use without --reference MODEL: add that, or leave it out")
    from polygen_stream.analyze.run_analysis import analyze_run

    analyze_run(
        run_dir, captions=captions, seeds=seeds, threads=threads, reference=reference, pretrained=pretrained,
        real=real, console=console(),
    )  # fmt: skip


def report(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]...", show_default=False, help="Run folders.")],
    query: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Of one run: show the images nearest to this text; may be repeated."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of one run: device of the model that finds them: cpu, cuda or cuda:N.")
    ] = "cpu",
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Of several runs: file of the comparison.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Write the report of a run again, or compare runs with the first one.

    Of one run, RUN/report.html is renewed with what `evaluate` and `analyze` have left since. Several runs are laid
    side by side on one page: curves, scores, Delta_MTL against the first, and how the generators' coordinates correlate
    with it.
    """
    if len(runs) == 1:
        refuse_options(context, ["--out"], f"has no use with one run, whose report is {runs[0] / 'report.html'}")
        from polygen_stream.report.report import write_report

        print(write_report(runs[0], query or (), device=device))
        return
    refuse_options(
        context, ["--query", "--device"], f"is of the report of one run, and here are {len(runs)}: leave it out"
    )
    from polygen_stream.report.compare import write_comparison

    print(write_comparison(runs, out))


def experiment(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            show_default=False,
            help="A TOML file with arms, seeds and pool, or the name of one that comes with the package, e.g. table1.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the result table and page.")] = Path("docs/results"),
    pools: Annotated[Path, typer.Option(help="Folder of rendered pools.")] = Path("runs/pools"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one CPU thread each.")] = 2,
    page_only: Annotated[
        bool, typer.Option("--page", help="Write the page of the runs there are; train none.")
    ] = False,
) -> None:
    """Compare ways to spend a budget of images: many small runs over one pool.

    The pool is rendered once. Every finished run is added to OUT/NAME.csv at once, and a command that was stopped
    continues where it was.
    """
    if page_only:
        refuse_options(context, ["--jobs", "--pools"], "cannot be used with --page, which trains nothing")
    from polygen_stream.experiment import experiment as command

    command.run(file, out, pools, jobs, page_only, console())
