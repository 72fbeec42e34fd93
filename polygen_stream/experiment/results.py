"""The result table of an experiment: a CSV file with one row per finished trial, and which items each got right."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.base.text_files import read_text
from polygen_stream.evaluate.delta_mtl import TASKS
from polygen_stream.experiment.items import items_path, read_items, write_items
from polygen_stream.experiment.spec import Experiment, settings_hash

COMPOSITION = "compositional"
WORST = "worst_edits"  # mean of COMPOSITION over some edits, see worst_edits.py
# Scores that are shares of right answers -> the set of test items that they ask about.
ITEMS = {
    "zero_shot": "things",
    "linear_probe": "things",
    "few_shot": "things",
    "image_to_text_r1": "pairs",
    "text_to_image_r1": "pairs",
    COMPOSITION: "edits",
    "micro_sugarcrepe_pp_itt": "edits",
    "zero_shot_colours": "things",
}
TRANSFER = "transfer"  # measured where `polygen-stream fetch-pictures` has been
SCORES = (*TASKS, COMPOSITION, "micro_sugarcrepe_pp_itt", "zero_shot_colours", TRANSFER, "generator_probe")


@dataclass(frozen=True)
class Trial:
    """One training run to do.

    Attributes:
        phase: "tune" for the choice of the learning rate, "test" for the comparison.
    """

    arm: str
    phase: str
    seed: int
    lr: float


class TrialResult(BaseModel, frozen=True, extra="ignore", arbitrary_types_allowed=True):
    """One row of the table; its columns are the fields and, in place of `scores`, SCORES.

    `correct` is in the items file.

    Attributes:
        settings: `settings_hash` of the arm at the time of the run.
        pool: number of the pool that it was trained on.
        ensemble: names of the generators, joined by "+".
        n_positives: n+, images per caption.
        m: number of generators.
        validation: score on the validation set, in 0..1.
        scores: {name: score in 0..1} on the test set, one for each of SCORES, TRANSFER if its pictures were there and
            the generator probe if the pool has held-out captions; empty for a tuning trial.
        correct: {name: bool [items], of few-shot [draws, items]} for each of ITEMS; empty for a tuning trial.
    """

    arm: str
    phase: str
    seed: int
    lr: float
    settings: str
    pool: int = 0  # tables of before there was more than one do not have it
    ensemble: str
    n_positives: int
    m: int
    captions: int
    images_rendered: int
    images_seen: int
    texts_seen: int
    steps: int
    seconds_training: float
    seconds: float
    final_loss: float
    early_grad_norm_variance: float
    validation: float
    scores: dict[str, float]
    correct: dict[str, np.ndarray] = Field(default={}, exclude=True, repr=False)

    @property
    def trial(self) -> Trial:
        """What was run."""
        return Trial(self.arm, self.phase, self.seed, self.lr)


_COLUMNS = [name for name in TrialResult.model_fields if name not in ("scores", "correct")]


def read_results(table: Path, experiment: Experiment) -> list[TrialResult]:
    """Read the rows of the experiment's arms whose settings are still those of the experiment file.

    Test runs whose items are not in the items file are left out.

    Returns:
        The rows in the order of the file; none if there is no file.

    Raises:
        UserError: a file cannot be read or is not such a table.
    """
    if not table.exists():
        return []
    current = {arm.name: settings_hash(experiment, arm) for arm in experiment.arms}
    text = read_text(table, "result table")
    try:
        reader = csv.DictReader(io.StringIO(text))
        if text.strip() and "arm" not in (reader.fieldnames or ()):
            raise ValueError("its first line does not name the columns")
        results = [_parse(row, reader.line_num) for row in reader]
    except (ValueError, csv.Error) as problem:
        raise UserError(f"{table} is not a result table ({problem}): move it away and start again") from None
    items = read_items(items_path(table))
    complete = [result.model_copy(update={"correct": items.get(_run_name(result), {})}) for result in results]
    return [
        result
        for result in complete
        if current.get(result.arm) == result.settings
        and (result.phase != "test" or result.correct.keys() == ITEMS.keys())
    ]


def write_results(results: Iterable[TrialResult], table: Path) -> None:
    """Write the table, sorted by phase, arm, seed and learning rate, and the items of its test runs.

    Readers see the old or the new of each file. The items are written first: a row of the table has its items.
    """
    results = sorted(results, key=lambda r: (r.phase, r.arm, r.seed, r.lr))
    table.parent.mkdir(parents=True, exist_ok=True)
    write_items({_run_name(result): result.correct for result in results if result.correct}, items_path(table))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *SCORES])
    for result in results:
        values = [getattr(result, name) for name in _COLUMNS]
        writer.writerow([_format(value) for value in (*values, *(result.scores.get(name, "") for name in SCORES))])
    write_atomically(table, text.getvalue())


def _parse(row: dict[str, str | None], line: int) -> TrialResult:
    """A cell without a number is NaN; a score without one was not measured."""
    columns = {name: text or "nan" for name, text in row.items() if name in _COLUMNS and text is not None}
    scores = {name: text for name in SCORES if (text := row.get(name))}
    try:
        return TrialResult.model_validate({**columns, "scores": scores})
    except ValidationError as problem:
        first = problem.errors()[0]
        raise ValueError(f"line {line}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _run_name(result: TrialResult) -> str:
    return f"{result.arm} {result.phase} {result.seed} {_format(result.lr)} {result.settings}"


def _format(value: str | int | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
