"""`polygen-stream experiment`: make the pool, do the runs, write table and page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from polygen_stream.assets.resources import experiment_path
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.experiment.load import load_experiment
from polygen_stream.experiment.results import read_results
from polygen_stream.experiment.spec import Experiment, ImagesNeeded


def run(file: str | Path, out: Path, pools: Path, jobs: int, page_only: bool, console: Console) -> None:
    """Make or continue pool, table and page.

    Args:
        file: name of an experiment that comes with the package, or path of a TOML file.
        out: folder of table and page.
        pools: folder of pools.
        jobs: processes, one CPU thread each.
        page_only: write the page of the runs in the table, without running anything.
        console: shows progress and the path of the page.

    Raises:
        UserError: the experiment file is wrong; `out` or `pools` is a file; the table is damaged, or has fewer than two
            runs of the baseline.
    """
    spec = load_experiment(experiment_path(file))
    table = out / f"{spec.name}.csv"
    for option, folder in (("--out", out), ("--pools", pools)):
        if not (above := nearest_existing(folder.absolute())).is_dir():
            raise UserError(f"{option} {folder}: {above} is a file: name a folder")
    read_results(table, spec)  # a damaged one is refused before hours of rendering
    if not page_only:
        _run(spec, pools, table, jobs, console)
    results = read_results(table, spec)
    baseline = [result for result in results if result.phase == "test" and result.arm == spec.baseline]
    if len(baseline) < 2:
        raise UserError(
            f"{table} has {len(baseline)} runs of the baseline {spec.baseline}; a page needs two: leave --page out"
        )
    from polygen_stream.experiment.page import write_page
    from polygen_stream.experiment.reserved import counts_path, read_counts

    counts = read_counts(counts_path(table), spec)
    console.print(f"page: {write_page(spec, results, counts, out, f'polygen-stream experiment {file}')}")


def _run(spec: Experiment, pools: Path, table: Path, jobs: int, console: Console) -> None:
    from polygen_stream.experiment.pool import ImagePool, make_pool
    from polygen_stream.experiment.reserved import counts_path, update_counts
    from polygen_stream.experiment.runner import run_experiment

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress:
        made: list[tuple[ImagePool, ImagesNeeded]] = []
        for number in range(spec.pools):
            pool, needed = spec.numbered_pool(number), spec.images_of_pool(number)
            make_pool(pool, needed, pools / pool.name, jobs, progress)
            made.append((ImagePool(pool, pools / pool.name), needed))
        bar = progress.add_task("counting reserved combinations", total=1)
        update_counts(made, counts_path(table))
        progress.advance(bar)
        run_experiment(spec, pools, table, jobs, progress)
