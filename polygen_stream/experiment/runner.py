"""All runs of an experiment: learning rates first, then the seeds; every finished run is a row of the table at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import pandas as pd
from rich.progress import Progress

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.trial import Trial, run_trial, settings_of
from polygen_stream.experiment.workers import workers_of

_IDENTITY = ["arm", "phase", "seed", "lr"]


def run_experiment(
    experiment: Experiment, pool_folder: Path, table: Path, jobs: int, progress: Progress
) -> pd.DataFrame:
    """Do what is missing in the table, and return the whole of it.

    Args:
        table: CSV, one row per run. Rows of arms whose settings have changed are done again.
        jobs: runs at a time, one CPU thread each.
    """
    rows = read_table(table, experiment)
    with workers_of(jobs) as workers:
        for phase in (tuning_trials, test_trials):
            trials = list(phase(experiment, rows))
            done = {tuple(row) for row in rows[_IDENTITY].itertuples(index=False)} if len(rows) else set()
            missing = [trial for trial in trials if (trial.arm, trial.phase, trial.seed, trial.lr) not in done]
            bar = progress.add_task(f"{experiment.name}: {phase.__name__.replace('_', ' ')}", total=len(trials))
            progress.advance(bar, len(trials) - len(missing))
            for row in _results(workers, experiment, missing, pool_folder, jobs):
                rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
                write_table(rows, table)
                progress.advance(bar)
    return rows


def tuning_trials(experiment: Experiment, rows: pd.DataFrame) -> Iterator[Trial]:
    if len(experiment.learning_rates) > 1:
        for lr in experiment.learning_rates:
            for arm in experiment.arms:
                yield Trial(arm.name, "tune", experiment.tuning_seed, lr)


def test_trials(experiment: Experiment, rows: pd.DataFrame) -> Iterator[Trial]:
    most = max(arm.seeds or experiment.seeds for arm in experiment.arms)
    for seed in range(most):  # a stop half-way leaves every arm with the same seeds
        for arm in experiment.arms:
            if seed < (arm.seeds or experiment.seeds):
                yield Trial(arm.name, "test", seed, best_learning_rate(experiment, rows, arm.name))


def best_learning_rate(experiment: Experiment, rows: pd.DataFrame, arm: str) -> float:
    """The best one on the validation set; of equally good ones the smallest."""
    if len(experiment.learning_rates) == 1:
        return experiment.learning_rates[0]
    tried = rows[(rows.arm == arm) & (rows.phase == "tune")].sort_values("lr")
    return float(tried.lr[tried.validation.idxmax()])


def read_table(table: Path, experiment: Experiment) -> pd.DataFrame:
    """Rows of the experiment's arms as they are set up now.

    Raises:
        UserError: the file is no such table.
    """
    if not table.exists():
        return pd.DataFrame()
    try:
        rows = pd.read_csv(table, dtype={"settings": str})
        current = {arm.name: settings_of(experiment, arm) for arm in experiment.arms}
        return rows[rows.arm.map(current) == rows.settings].reset_index(drop=True)
    except (ValueError, AttributeError) as problem:
        raise UserError(f"{table} is not a result table ({problem}): move it away and start again") from None


def write_table(rows: pd.DataFrame, table: Path) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    text = rows.sort_values(["phase", "arm", "seed", "lr"]).to_csv(index=False, float_format="%.6g")
    write_atomically(table, text)


def _results(
    workers: ProcessPoolExecutor, experiment: Experiment, trials: Iterable[Trial], pool_folder: Path, jobs: int
) -> Iterator[dict[str, object]]:
    waiting, running = list(trials), set()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.add(workers.submit(run_trial, experiment, waiting.pop(0), pool_folder))
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            yield future.result()
