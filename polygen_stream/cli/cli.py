"""The command line: what users type, checked and handed on; every command imports what it needs when it runs.

Long because it is every command's options with their help, on one page; what a command does lies in its own part.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from polygen_stream import __version__
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.cli.audit import app as audit
from polygen_stream.cli.bench import app as bench
from polygen_stream.cli.concepts import app as concepts
from polygen_stream.config import RunConfig, load_config, parse_overrides, split_config_name

if TYPE_CHECKING:
    from polygen_stream.launch.process_plan import ProcessPlan

app = typer.Typer(
    name="polygen-stream",
    help="Train CLIP on images that diffusion models render while it trains.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(audit, name="audit")
app.add_typer(bench, name="bench")
app.add_typer(concepts, name="concepts")


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
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve the report at 127.0.0.1 while the run goes on.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="shards:DIR", help="Train from the shards of --record-shards or an export; nothing is rendered."
        ),
    ] = None,
    record_shards: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the pictures as WebDataset shards in this new folder (launch.record_shards)."
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="COUNTxNAME-MEMORY", help="With --dry-run: plan for 8xH100-80G.")
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="First fetch weights and build engines that are missing.")
    ] = False,
    accept_license: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --prepare: as `fetch` takes it.")
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(metavar="N|torchrun|slurm", help="Nodes that train one model; or who started this on each."),
    ] = None,
    node: Annotated[int | None, typer.Option(min=0, help="Which of the nodes this is, from 0.")] = None,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where node 0 can be reached by the others.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|auto", help="Go on with an unfinished run; auto: the newest one under runs/."),
    ] = None,
) -> int:
    """Render and train at once, evaluate, and leave a run folder.

    CONFIG is a TOML file or the name of a preset; without it, the micro preset runs, which needs two CPU cores
    and no download. Any key of it can be overridden: --train.steps 200.
    """
    if resume is not None:
        if context.args or run_dir or dry_run or prepare or source or record_shards or nodes or node or rendezvous:
            raise UserError(
                f"--resume {resume} takes no config, override, --run-dir, --source, --record-shards, --nodes, "
                "--dry-run or --prepare: a run goes on as it began; its config.toml may be edited where that does "
                "not concern training ([launch], [evaluate])"
            )
        from polygen_stream.launch.resume import find_run
        from polygen_stream.launch.supervise import supervise

        folder = find_run(resume)
        config = load_config(RunFolder(folder).config)
        return supervise(config, folder, _plan(config, dashboard), resumed=True)
    config_name, words = split_config_name(context.args)
    options = (
        "run-dir", "dry-run", "dashboard", "source", "record-shards", "nodes", "node", "rendezvous", "resume", "gpus",
        "prepare", "accept-license", "help",
    )  # fmt: skip
    overrides = parse_overrides(words, other_options=options)
    if source:
        kind, _, folder = source.partition(":")
        if kind != "shards" or not folder:
            raise UserError(f"--source {source}: write shards:DIR; who else writes captions says captions.source")
        overrides |= {"captions.source": kind, "captions.shards": str(Path(folder).absolute())}
    if record_shards:
        overrides["launch.record_shards"] = str(record_shards.absolute())
    from polygen_stream.launch.nodes import node_folder, place_node

    config = place_node(load_config(config_name, overrides), nodes, node, rendezvous)
    run_dir = node_folder(config, run_dir)
    if gpus is not None and not dry_run:
        raise UserError(f"--gpus {gpus} is for planning: add --dry-run (a run takes the GPUs that its config names)")
    from polygen_stream.capacity import readiness
    from polygen_stream.captions.banks.registry import check_bank

    if config.captions.source != "shards" and not readiness.bank_is_absent(config):
        check_bank(config.captions)
    if dry_run:
        from polygen_stream.capacity.budget_view import show_budget
        from polygen_stream.capacity.gpus import local_gpus, parse_gpus
        from polygen_stream.launch.process_plan_view import show_process_plan
        from polygen_stream.launch.run_setup import choose_run_folder

        plan, folder = _plan(config, dashboard, there=False), choose_run_folder(config, run_dir)
        console, there = Console(highlight=False), local_gpus() if gpus is None else parse_gpus(gpus)
        show_process_plan(config, plan, folder, console, here=gpus is None)
        show_budget(config, plan, there, console)
        return 0
    config_words = [config_name or "micro", *words]
    if prepare:
        readiness.prepare(config, config_words, accept_license or ())
    else:
        readiness.refuse(config_words, readiness.missing(config, config_words, _plan(config, False, there=False)))
    from polygen_stream.launch.supervise import supervise

    return supervise(config, run_dir, _plan(config, dashboard))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG] [--section.key VALUE]... [OPTIONS]",
)
def plan(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="How many there are.", show_default=False)],
    rates: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.json", help="Measured by `bench generators`, `captions` or `trainer`; repeatable."),
    ] = None,
    reuse: Annotated[float, typer.Option(min=1.0, help="Draws of each caption.")] = 40.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the run (default: the config's).")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Instead of steps: rendered images of the run.")] = None,
) -> None:
    """Propose which GPU does what, with the arithmetic: images/s, reuse, ring, hours, and how long the trainer waits.

    CONFIG is a TOML file or a preset (default: paper). Without --rates, figures from the literature are used.
    """
    from polygen_stream.capacity.proposal import propose
    from polygen_stream.capacity.proposal_view import show_proposal
    from polygen_stream.capacity.rates import find_rates

    if steps is not None and images is not None:
        raise UserError(f"--steps {steps} and --images {images} are two budgets: give one")
    config_name, words = split_config_name(context.args)
    options = ("gpus", "rates", "reuse", "steps", "images", "help")
    config = load_config(config_name or "paper", parse_overrides(words, other_options=options))
    found = find_rates(config, rates or ())
    proposal = propose(config, found, gpus, reuse, steps, images)
    show_proposal(config, found, proposal, Console(highlight=False))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG] [--section.key VALUE]... [OPTIONS]",
)
def fetch(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what is needed, go nowhere.")] = False,
    accept_license: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A licence that forbids commercial use, by name; may be repeated."),
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="On a machine of generators.remote: what renders there, and no more.")
    ] = False,
) -> None:
    """Download the weights that a config needs on this machine; afterwards everything runs offline.

    Listed are repositories, revisions, sizes, licences and gates, from recipes alone. Each file is downloaded once: an
    interrupted download keeps those that arrived. HF_HOME says where to, HF_TOKEN who asks.
    """
    from polygen_stream.fetch import fetch as command

    config_name, words = split_config_name(context.args)
    config = load_config(
        config_name, parse_overrides(words, other_options=("dry-run", "accept-license", "remote", "help"))
    )
    if remote and not config.generators.remote:
        raise UserError("--remote is for machines that render for others, but generators.remote = '': leave it out")
    console = Console(highlight=False)
    if dry_run:
        command.show(config, console, remote)
    else:
        command.fetch(config, accept_license or (), console, remote)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", show_default=False, help="A checkpoint folder, a run folder, or an open_clip model."
        ),
    ],
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Weights of that open_clip model, or a tag, which open_clip downloads."),
    ] = None,
    tasks: Annotated[str, typer.Option(metavar="KIND[:DATASET],...", help="What to score.")] = "micro",
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of standard datasets; of WebDatasets also a URL."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model computes.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 0,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
) -> None:
    """Score a checkpoint, or any open_clip model, on standard datasets or your own.

    Kinds that take a DATASET: zero_shot, linear_probe and few_shot (a
    folder CLASS/picture, or train/ and test/ of such; or a name that
    clip_benchmark knows, e.g. cifar10, imagenet1k, wds/vtab/pets; or
    fashion_mnist, or micro), retrieval (a TSV of image and caption; or
    mscoco_captions, flickr30k, flickr8k), edits (a TSV of image, caption
    and negative), pairs (a TSV of image_0, caption_0, image_1, caption_1).
    Kinds without: micro, sugarcrepe, sugarcrepe_pp (pictures: COCO's
    val2017 in DIR), sugarcrepe_pp_tot (needs no pictures).
    """
    from polygen_stream.evaluate.evaluate_model import evaluate as run_evaluation

    names = [name for name in tasks.split(",") if name]
    if not names:
        raise UserError(f"--tasks {tasks!r} names none: e.g. micro, or zero_shot:FOLDER (see --help)")
    run_evaluation(model, pretrained, names, data, device, threads, workers, as_json, Console(highlight=False))


@app.command()
def analyze(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")],
    captions: Annotated[int, typer.Option(min=8, help="Captions of the run to draw again.")] = 48,
    seeds: Annotated[int, typer.Option(min=2, help="Pictures of each by each generator.")] = 6,
    reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A fixed CLIP that judges, as `evaluate` names it.")
    ] = None,
    pretrained: Annotated[str | None, typer.Option(metavar="FILE", help="Weights of that open_clip model.")] = None,
    real: Annotated[Path | None, typer.Option(metavar="DIR", help="Real pictures, for their spectrum.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Measure a run's generators: recognizability, diversity, spectra; and whether its model can tell them apart.

    Some of the run's captions are drawn again by every generator, several
    times each. The figures go into RUN/analysis.json, which
    `polygen-stream report` shows and, over several runs, correlates with
    Delta_MTL.
    """
    from polygen_stream.analyze.run_analysis import analyze_run

    analyze_run(
        run_dir, captions=captions, seeds=seeds, threads=threads, reference=reference, pretrained=pretrained,
        real=real, console=Console(highlight=False),
    )  # fmt: skip


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]...", show_default=False, help="Run folders.")],
    query: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Show the pictures nearest to this text; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where a comparison goes.", show_default=True)] = Path(
        "comparison.html"
    ),
) -> None:
    """Write the report of a run again, or compare runs with the first one.

    Of one run, RUN/report.html is renewed with what `evaluate` and
    `analyze` have left since. Several runs are laid side by side in one
    page: curves, scores, Delta_MTL against the first, and how the
    generators' coordinates go with it.
    """
    if len(runs) == 1:
        from polygen_stream.report.report import write_report

        print(write_report(runs[0], query or ()))
        return
    from polygen_stream.report.compare import write_comparison

    print(write_comparison(runs, out))


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The folder of a completed run.")],
    run_dir: Annotated[Path | None, typer.Option(help="New folder for the replay (else runs/<time>-<name>).")] = None,
) -> int:
    """Train once more on what a run was trained on, without any language model.

    Captions come from its journal, batches from its draw log: the same groups in the same order at every step. Pictures
    are rendered again from the same seeds. Evaluated and reported like any run.
    """
    from polygen_stream.launch.replay import replay_of
    from polygen_stream.launch.supervise import supervise

    config, fill = replay_of(run)
    return supervise(config, run_dir, fill=fill)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")],
    out: Annotated[Path | None, typer.Option(help="New folder for the shards (else RUN/export).")] = None,
    shards: Annotated[str, typer.Option("--format", help="What to write; webdataset is all there is.")] = "webdataset",
    per_shard: Annotated[int, typer.Option(min=1, help="Pictures in a shard.")] = 10_000,
) -> None:
    """Write a run's captions and pictures as shards that open_clip's training script reads.

    Pictures are rendered again from the journal, without any language model; hard negatives are pairs of a picture and
    a caption like any other. Train on them with: python -m open_clip_train.main --dataset-type webdataset
    --train-data 'DIR/{000000..NNNNNN}.tar'
    """
    if shards != "webdataset":
        raise UserError(f"--format {shards}: the only format is webdataset")
    from polygen_stream.export.webdataset import export as export_run

    out = out or run / "export"
    count = export_run(run, out, per_shard, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{count} pictures in {out}")


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|SNAPSHOT", show_default=False, help="A run folder, or a ring.safetensors.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    images: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write a grid of captions and their pictures as well.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Captions in that grid.")] = 12,
) -> int:
    """Look into the ring of a running run, or into a snapshot of one.

    While a run is going on, its supervisor answers within about a second;
    the run does not wait for it. Of a run that has ended, the newest
    ring.safetensors in its folder is shown, which holds no pictures unless
    it belongs to a checkpoint that needed them.

    Shown are captions by kind and state, pictures by generator and state,
    how often captions were drawn, the rate limiter's window, ages, waits,
    and every process: alive or not, what it does, what it holds.
    """
    from polygen_stream.launch.watch.inspect_client import open_inspected
    from polygen_stream.launch.watch.inspect_view import show, to_json
    from polygen_stream.ring.inspection import inspect_state

    if images:
        if images.suffix != ".png":
            raise UserError(f"--images {images}: the grid is a PNG file; choose a name ending in .png")
        # Takes seconds to load, in which a busy ring may evict what is to be shown: so before looking at it.
        from polygen_stream.report.samples import draw_samples, pick_samples
    inspected = open_inspected(path)
    samples = pick_samples(inspected.groups, count, inspected.read) if images else []
    found = inspect_state(inspected.state, inspected.running)
    if as_json:
        print(to_json(inspected, found))
    else:
        show(inspected, found, Console(highlight=False))
    if images:
        if not samples:
            raise UserError(f"{inspected.title} holds no pictures; leave --images away")
        try:
            draw_samples(samples, inspected.state.spec.generators).savefig(images, dpi=130)
        except OSError as error:
            raise UserError(f"cannot write {images}: {error.strerror}; choose another --images") from error
        print(f"{len(samples)} captions in {images}", file=sys.stderr)
    return 0


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a run stands, from any terminal.

    While a run is going on, its supervisor answers within about a second; the run does not wait for it. Of a run that
    has ended, what its folder says is shown: its ring as it last was saved, metrics, checkpoints and events.
    """
    import json

    from polygen_stream.launch.watch.status_query import status_of

    found = status_of(run)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from polygen_stream.launch.watch.status_report import show_status

    show_status(found, Console(highlight=False))


@app.command()
def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="A run folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Where the trace goes.", show_default=True)] = Path(
        "trace.json"
    ),
) -> None:
    """Write what the processes of a run did when, for ui.perfetto.dev or chrome://tracing.

    Of a run with launch.trace = true, during the run or after: what every process did and waited for, captions in the
    ring, backlog by generator, and what happened.
    """
    from polygen_stream.launch.watch.trace_export import write_trace

    print(f"{write_trace(run, out)} spans in {out}")


@app.command()
def limits(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The folder of a running run.")],
    samples_per_insert: Annotated[float | None, typer.Option(help="Draws per produced caption; 0 = off.")] = None,
    error_buffer: Annotated[float | None, typer.Option(help="How far draws and inserts may drift from it.")] = None,
    min_fill: Annotated[int | None, typer.Option(help="Complete captions before the first step.")] = None,
    max_times_sampled: Annotated[int | None, typer.Option(help="Draws after which a caption goes; 0 = off.")] = None,
    max_age: Annotated[int | None, typer.Option(help="Steps after which a caption goes; 0 = off.")] = None,
) -> None:
    """Change what bounds draws and reuse while a run goes on; without options, show it.

    All or nothing: numbers under which producers and trainer would wait for
    each other for ever are refused.
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


@app.command("build-engines")
def build_engines(
    generators: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recipes, e.g. micro/sd15 or ./my_sd.toml (default: those of the micro preset).", show_default=False
        ),
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Compiler (default: the micro preset's).")] = None,
    target: Annotated[
        str | None, typer.Option(help="GPU architectures to build ahead of time for, e.g. SM80,SM89 (tensorrt-rtx).")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Compile the architecture only: no download, nothing to render.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Build again what the cache has.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Generators to build at once.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be built, with size and time.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show what the cache has.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the cache with what was built.")] = False,
    collect: Annotated[
        bool, typer.Option("--collect", help="Remove these generators' engines of other weights or versions.")
    ] = False,
) -> None:
    """Compile generators into engines that renderers load; what the cache has is not built again.

    The cache is POLYGEN_STREAM_CACHE, else polygen-stream in the user's cache folder.
    """
    from polygen_stream.engine import build_engines as command
    from polygen_stream.engine.cache import EngineCache

    cache, console = EngineCache(), Console(highlight=False)
    if show_list:
        return command.show_entries(cache, console)
    if verify:
        return command.verify(cache, console)
    defaults = load_config().generators
    targets = target.split(",") if target else [None]
    orders = command.build_requests(
        generators or defaults.recipes, backend or defaults.backend, cache, targets, random_weights
    )
    if dry_run:
        return command.show_plan(orders, cache, console)
    if collect:
        return command.collect(orders, cache, console)
    return command.build_engines(orders, cache, console, force, jobs)


@app.command()
def experiment(
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
    page_only: Annotated[bool, typer.Option("--page", help="Only write the page of the runs there are.")] = False,
) -> None:
    """Compare ways to spend a budget of images: many small runs over one pool.

    The pool is rendered once, every finished run is a row of OUT/NAME.csv at
    once, and a command that was stopped goes on where it was.
    """
    from polygen_stream.experiment import experiment as command

    command.run(file, out, pools, jobs, page_only, Console(highlight=False))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG] [--section.key VALUE]... [OPTIONS]",
)
def simulate(
    context: typer.Context,
    gpus: Annotated[
        str, typer.Option(help="GPUs of the run, one simulation each.")
    ] = "1,2,4,8,16,32,64,128,256,512,1024",
    rates: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Measured rates; may be repeated (else reference figures)."),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="GPUs of a node.")] = 8,
    trainer_gpus: Annotated[int, typer.Option(min=1, help="Of a node with several, how many train.")] = 1,
    jitter: Annotated[
        float, typer.Option(min=0, help="How much steps of nodes differ: share, standard deviation.")
    ] = 0.05,
    images: Annotated[int, typer.Option(min=100, help="Pictures to simulate for each, at most.")] = 10_000,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Compare this completed run with its own simulation instead.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plot there (.png, .svg).")] = None,
) -> None:
    """Simulate a run on 1 to 1,024 GPUs: waiting, images, reuse, waste, hours and GPU-hours.

    The ring, its limiter, the curriculum and the order of production are the
    real ones; what models take is waited for in simulated time. With several
    nodes, one is simulated, and every step waits for the slowest of all.
    """
    from polygen_stream.simulate.simulate import simulate_against, simulate_run

    if against is not None:
        if context.args:
            raise UserError(f"--against {against} takes no config or override: they are the run's own")
        return simulate_against(against)
    name, words = split_config_name(context.args)
    others = ("gpus", "rates", "gpus-per-node", "trainer-gpus", "jitter", "images", "against", "json", "plot", "help")
    config = load_config(name, parse_overrides(words, other_options=others))
    simulate_run(
        config, gpus, rates or (), gpus_per_node=gpus_per_node, trainer_gpus=trainer_gpus, jitter=jitter,
        images=images, json_file=json_file, plot=plot,
    )  # fmt: skip


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Show what this machine can run, and what to install for the rest."""
    from polygen_stream.doctor.doctor import examine, show, to_json

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
        if not problem.format_message():  # a group without a command: its help has been shown
            sys.exit(2)
        _fail(problem.format_message(), 2)
    except PolygenError as problem:
        _fail(str(problem), problem.exit_code)
    except OSError as problem:
        if problem.filename is None:  # no file that somebody named
            raise
        _fail(f"{problem.strerror}: {problem.filename}", 2)
    sys.exit(code or 0)


def _plan(config: RunConfig, dashboard: bool, there: bool = True) -> ProcessPlan:
    """What a run starts; where its dashboard will be is said at once. there: as `build_plan` has it."""
    from polygen_stream.launch.process_plan import build_process_plan, dashboard_port

    port = dashboard_port() if dashboard else None
    if port is not None:
        print(f"dashboard: http://127.0.0.1:{port}/", file=sys.stderr)
    return build_process_plan(config, port, there)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
