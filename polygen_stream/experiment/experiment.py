"""`polygen-stream experiment`: make the pool, do the runs, write table and page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from polygen_stream.assets.resources import experiment_path
from polygen_stream.base.errors import UserError
from polygen_stream.experiment.spec import load_experiment


def run(file: str | Path, out: Path, pools: Path, jobs: int, page_only: bool, console: Console) -> None:
    """Make or continue pool, table and page.

    Args:
        file: name of an experiment that comes with the package, or path of a TOML file.
        out: folder of table and page.
        pools: folder of pools.
        jobs: processes, one CPU thread each.
        page_only: write the page of the runs that there are.

    Raises:
        UserError: the experiment file is wrong; a page without runs of the baseline.
    """
    spec = load_experiment(experiment_path(file))
    command = f"polygen-stream experiment {file}"
    from polygen_stream.experiment.page import write_page
    from polygen_stream.experiment.pool import make_pool
    from polygen_stream.experiment.runner import read_table, run_experiment

    table = out / f"{spec.name}.csv"
    if not page_only:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            folder = pools / spec.pool.name
            make_pool(spec.pool, folder, jobs, progress)
            run_experiment(spec, folder, table, jobs, progress)
    rows = read_table(table, spec)
    tested = rows[(rows.phase == "test") & (rows.arm == spec.baseline)] if len(rows) else rows
    if len(tested) < 2:
        raise UserError(
            f"{table} has {len(tested)} runs of the baseline {spec.baseline}; a page needs two: leave --page away"
        )
    console.print(f"page: {write_page(spec, rows, out, command)}")
