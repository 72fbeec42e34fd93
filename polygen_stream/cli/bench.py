"""The command group `bench`: measurements of the parts. Each imports what it measures when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import console, long_options, refuse_options

INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended

app = typer.Typer(help="Measure the parts, side by side with what people use instead.", no_args_is_help=True)

Json = Annotated[Path | None, typer.Option("--json", help="Also write the measurement to this file.")]
Quick = Annotated[bool, typer.Option("--quick", help="Run for a short time; the numbers mean little.")]


@app.command()
def ring(
    context: typer.Context,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Also measure what people use instead."),
    ] = False,
    json_file: Json = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also plot draw times by ring size in this file (.png, .svg).")
    ] = None,
    quick: Quick = False,
    soak: Annotated[float | None, typer.Option(help="Also keep the ring busy for this many minutes.", min=0)] = None,
    reverb_python: Annotated[
        Path | None, typer.Option(help="With --baselines: Python interpreter that has dm-reverb and numpy.")
    ] = None,
) -> int:
    """Measure the ring: throughput beside memcpy and others, draws up to a million slots, 1 to 16 producers.

    Tables go to stdout, as Markdown when that is not a terminal.
    """
    if not baselines:
        refuse_options(context, ["--reverb-python"], "has no use without --baselines: add that, or leave it out")
    from polygen_stream.bench.ring import view
    from polygen_stream.bench.ring.benchmark import bench_ring

    _check_folders(json_file, plot)
    try:
        result = bench_ring(baselines, quick, soak, reverb_python, say=_say)
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return INTERRUPTED
    _save(result, json_file)
    if plot is not None:
        view.plot_growth(result, plot)
    if sys.stdout.isatty():
        view.show(result, console())
    else:
        print(view.markdown(result), end="")
    return 0


@app.command()
def ring_disk(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder on the disk to measure.")],
    gib: Annotated[float, typer.Option(min=0.05, help="Images in the ring, in GiB; twice as much is written.")] = 6.0,
    rounds: Annotated[int, typer.Option(min=3, help="Measured rounds of each.")] = 40,
    json_file: Json = None,
) -> None:
    """Measure a ring with its images in a file beside a plain loop of reads and writes at random places.

    To measure the disk and not the page cache, limit the memory to a part of --gib: systemd-run --user --scope
    -p MemoryMax=2G polygen-stream bench ring-disk FOLDER. The table goes to stdout as Markdown.
    """
    from polygen_stream.bench.ring_disk.benchmark import bench_ring_disk, markdown

    _check_folders(json_file)
    result = bench_ring_disk(folder, gib, rounds, say=_say)
    _save(result, json_file)
    print(markdown(result), end="")


@app.command()
def generators(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE]...", help="Recipes (default: those of the micro preset).", show_default=False),
    ] = None,
    backends: Annotated[
        str, typer.Option(help="Backends to compare, separated by commas; those without engines are left out.")
    ] = ("eager,onnxruntime,openvino,openvino-bf16"),
    batches: Annotated[str, typer.Option(help="Images per call, separated by commas.")] = "1,4,16,64",
    repeats: Annotated[int, typer.Option(min=1, help="Measured calls of each batch size.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="Device of the pipelines: cpu, cuda or cuda:N.")] = "cpu",
    json_file: Json = None,
) -> None:
    """Measure images per second of generators, eager beside their engines, and where the time goes.

    The table goes to stdout as Markdown. Engines come from the cache: polygen-stream build-engines --backend NAME.
    """
    from polygen_stream.bench.generators.benchmark import bench_generators
    from polygen_stream.bench.generators.view import markdown
    from polygen_stream.config import load_config
    from polygen_stream.engine.backends import get_backend
    from polygen_stream.engine.torch_compile import NAME as TORCH_COMPILE

    _check_folders(json_file)
    try:
        sizes = [int(size) for size in batches.split(",")]
    except ValueError:
        raise UserError(f"--batches {batches}: expected whole numbers, e.g. 1,16") from None
    for name in backends.split(","):
        if name not in ("eager", TORCH_COMPILE):
            get_backend(name)  # or it is refused by name
    if min(sizes) < 1:
        raise UserError(f"--batches {batches}: at least one image a call")
    names = recipes or load_config().generators.recipes
    result = bench_generators(names, backends.split(","), sizes, repeats, threads, device, say=_say)
    _save(result, json_file)
    print(markdown(result), end="")


@app.command()
def balance(
    bank: Annotated[
        Path | None, typer.Option(help="A concept bank (default: 500,000 made-up entries).", show_default=False)
    ] = None,
    captions: Annotated[int, typer.Option(min=1, help="Captions to make up from the bank's entries.")] = 1_000_000,
    threshold: Annotated[float, typer.Option(help="Captions per concept up to which all are kept.")] = 20.0,
    json_file: Json = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also plot the frequencies, before and after, in this file (.png, .svg).")
    ] = None,
) -> None:
    """Measure balancing: de-duplication, substring matching against a bank, and the decision, on one core.

    The table goes to stdout as Markdown. Captions are made up and choose concepts by Zipf's law.
    """
    from polygen_stream.bench.captions import balance_view
    from polygen_stream.bench.captions.balance import bench_balance, made_up_bank
    from polygen_stream.captions.banks.concepts import load_bank

    _check_folders(json_file, plot)
    entries = load_bank(str(bank)) if bank is not None else made_up_bank(500_000)
    result = bench_balance(entries, captions, threshold, say=_say)
    _save(result, json_file)
    if plot is not None:
        balance_view.plot_flattening(result, plot)
    print(balance_view.markdown(result), end="")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[--section.key VALUE]... [OPTIONS]",
)
def captions(
    context: typer.Context,
    sources: Annotated[str, typer.Option(help="Sources to compare, separated by commas.")] = "transformers,vllm,openai",
    in_flight: Annotated[str, typer.Option(help="Replies generated at once, separated by commas.")] = "32",
    tasks: Annotated[int, typer.Option(min=1, help="Captions to ask for in a round.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 3,
    negatives: Annotated[bool, typer.Option("--negatives", help="Also ask for hard negatives.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a model.")] = 2,
    json_file: Json = None,
) -> None:
    """Measure captions and tokens per second, accepted replies and start of caption sources, by concurrency.

    Models, bank and sampling are the micro preset's, changed by --captions.KEY VALUE. All sources run under this
    interpreter, so it needs vLLM: .venv-vllm/bin/polygen-stream bench captions. The table goes to stdout as Markdown.
    """
    from polygen_stream.bench.captions.sources import bench_captions
    from polygen_stream.bench.captions.sources_view import markdown
    from polygen_stream.config import load_config, parse_overrides

    known = ("transformers", "vllm", "openai")
    for source in (names := sources.split(",")):
        if source not in known:
            raise UserError(f"--sources {sources}: {source!r} is none of {', '.join(known)}")
    config = load_config(None, parse_overrides(context.args, other_options=long_options(context)))
    _check_folders(json_file)
    try:
        concurrencies = [int(number) for number in in_flight.split(",")]
    except ValueError:
        raise UserError(f"--in-flight {in_flight}: expected whole numbers, e.g. 8,32") from None
    result = bench_captions(config, names, concurrencies, tasks, rounds, negatives, threads, say=_say)
    _save(result, json_file)
    print(markdown(result), end="")


@app.command()
def trainer(
    model: Annotated[str, typer.Option(help="Model config of open_clip, or micro.")] = "micro",
    batch: Annotated[int, typer.Option(min=2, help="Image-caption pairs of a step.")] = 128,
    pairs: Annotated[int, typer.Option(min=10, help="Measured steps of each of the two loops.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="Device of the models: cpu, cuda or cuda:N.")] = "cpu",
    json_file: Json = None,
) -> None:
    """Measure a training step beside open_clip's own loop: same model and batch, in turns, in one process.

    The table goes to stdout as Markdown.
    """
    from polygen_stream.bench.training.trainer import bench_trainer
    from polygen_stream.bench.training.trainer_view import markdown

    _check_folders(json_file)
    result = bench_trainer(model, batch, pairs, threads, device, say=_say)
    _save(result, json_file)
    print(markdown(result), end="")


@app.command()
def evaluation(
    batch: Annotated[int, typer.Option(min=2, help="Image-caption pairs of a step.")] = 128,
    pairs: Annotated[int, typer.Option(min=10, help="Measured pairs of steps of each kind.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the trainer; the evaluator has one.")] = 1,
    json_file: Json = None,
) -> None:
    """Measure a training step while the evaluator works beside one while it does not, in pairs of successive steps.

    The table goes to stdout as Markdown.
    """
    from polygen_stream.bench.training.evaluation import bench_evaluation
    from polygen_stream.bench.training.evaluation_view import markdown

    _check_folders(json_file)
    result = bench_evaluation(batch, pairs, threads, say=_say)
    _save(result, json_file)
    print(markdown(result), end="")


@app.command()
def end_to_end(
    steps: Annotated[int, typer.Option(min=20, help="Optimizer steps.")] = 1000,
    captions: Annotated[int, typer.Option(min=32, help="Captions to render.")] = 1200,  # each drawn 40 times
    batch: Annotated[int, typer.Option(min=8, help="Texts per step, captions and hard negatives together.")] = 64,
    folder: Annotated[Path | None, typer.Option(help="Keep runs and shards in this new folder.")] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="Also plot accuracy over time in this file (.png, .svg).")] = None,
) -> None:
    """Measure streaming beside the offline pipeline: render all, write WebDataset shards, train with a DataLoader.

    Renderers sleep as GPUs would compute; the trainer is real. The table goes to stdout as Markdown.
    """
    from polygen_stream.bench.end_to_end.benchmark import bench_end_to_end
    from polygen_stream.bench.end_to_end.view import markdown, plot_curves

    _check_folders(json_file, plot)
    if folder is not None and folder.exists():
        raise UserError(f"{folder} is there already: name a new folder")
    if batch > captions // 2:
        raise UserError(
            f"--batch {batch} of --captions {captions}: take at least twice as many captions as a batch has"
        )
    result = bench_end_to_end(steps, captions, batch, folder, say=_say)
    _save(result, json_file)
    if plot is not None:
        plot_curves(result, plot)
    print(markdown(result), end="")


@app.command("all")
def all_parts(
    context: typer.Context,
    parts: Annotated[
        str | None, typer.Option(help="Parts to measure, separated by commas (default: all).", show_default=False)
    ] = None,
    quick: Quick = False,
    json_file: Json = None,
    old: Annotated[
        Path | None, typer.Option("--compare", help="Compare with what an earlier `bench all --json` wrote.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="With --compare: relative change that counts as none.")] = 0.1,
) -> int:
    """Measure ring, generators, balancing, trainer, evaluation and end to end, one after the other.

    With --compare the exit code is 1 when a number got worse. The table goes to stdout as Markdown.
    """
    if old is None:
        refuse_options(context, ["--tolerance"], "has no use without --compare FILE: add that, or leave it out")
    from polygen_stream.bench.suite.run_all import PARTS, bench_all, compare, differences, read_result
    from polygen_stream.bench.suite.view import changes_markdown, markdown

    names = PARTS if parts is None else parts.split(",")
    for name in names:
        if name not in PARTS:
            raise UserError(f"--parts {parts}: {name!r} is none of {', '.join(PARTS)}")
    _check_folders(json_file)
    before = read_result(old) if old is not None else None
    result = bench_all(names, quick, say=_say)
    _save(result, json_file)
    if before is None:
        print(markdown(result), end="")
        return 0
    for line in differences(before, result):
        _say(f"hardly to be compared: {line}")
    changes = compare(before, result, tolerance)
    print(changes_markdown(changes), end="")
    return int(any(change.worse for change in changes))


def _save(result: Any, file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n")


def _check_folders(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
