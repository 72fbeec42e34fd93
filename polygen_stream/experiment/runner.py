"""All runs of an experiment: learning rates first, then seeds; every finished run is written to the table at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from rich.progress import Progress

from polygen_stream.experiment.results import Trial, TrialResult, read_results, write_results
from polygen_stream.experiment.spec import Experiment
from polygen_stream.experiment.trial import run_trial
from polygen_stream.experiment.workers import workers_of


def run_experiment(experiment: Experiment, pools: Path, table: Path, jobs: int, progress: Progress) -> None:
    """Do the runs that the table does not have.

    Args:
        experiment: what to run.
        pools: folder of the rendered pools.
        table: CSV, one row per run. Rows of arms whose settings have changed are done again.
        jobs: runs at a time, one CPU thread each.
        progress: shows one bar per phase.
    """
    results = read_results(table, experiment)
    with workers_of(jobs) as workers:
        for phase in (tuning_trials, test_trials):
            trials = list(phase(experiment, results))
            done = {result.trial for result in results}
            missing = [trial for trial in trials if trial not in done]
            bar = progress.add_task(f"{experiment.name}: {phase.__name__.replace('_', ' ')}", total=len(trials))
            progress.advance(bar, len(trials) - len(missing))
            for result in _results(workers, experiment, missing, pools, jobs):
                results.append(result)
                write_results(results, table)
                progress.advance(bar)


def tuning_trials(experiment: Experiment, results: Sequence[TrialResult]) -> Iterator[Trial]:
    """Yield one trial per arm and learning rate; none if there is only one rate."""
    if len(experiment.learning_rates) > 1:
        for lr in experiment.learning_rates:
            for arm in experiment.arms:
                yield Trial(arm.name, "tune", experiment.tuning_seed, lr)


def test_trials(experiment: Experiment, results: Sequence[TrialResult]) -> Iterator[Trial]:
    """Yield one trial per arm and seed, each with the best learning rate of its arm among the tuning results."""
    most = max(arm.seeds or experiment.seeds for arm in experiment.arms)
    for seed in range(most):  # a stop half-way leaves every arm with the same seeds
        for arm in experiment.arms:
            if seed < (arm.seeds or experiment.seeds):
                yield Trial(arm.name, "test", seed, best_learning_rate(experiment, results, arm.name))


def best_learning_rate(experiment: Experiment, results: Sequence[TrialResult], arm: str) -> float:
    """Return the rate with the best validation score, the smallest of equally good ones; a NaN is never the best."""
    if len(experiment.learning_rates) == 1:
        return experiment.learning_rates[0]
    tried = [result for result in results if result.arm == arm and result.phase == "tune"]
    return max(sorted(tried, key=lambda r: r.lr), key=lambda r: (r.validation == r.validation, r.validation)).lr


def _results(
    workers: ProcessPoolExecutor, experiment: Experiment, trials: Iterable[Trial], pools: Path, jobs: int
) -> Iterator[TrialResult]:
    waiting: list[Trial] = list(trials)
    running: set[Future[TrialResult]] = set()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.add(workers.submit(run_trial, experiment, waiting.pop(0), pools))
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            yield future.result()
