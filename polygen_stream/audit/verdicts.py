"""People's verdicts on hard negatives: which ones are shown, and the proportion found right.

As the paper's Table 3, which finds 74 % of Llama-3.1-8B's hard negatives right.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.base.seeding import key
from polygen_stream.base.text_files import read_text
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal
from polygen_stream.captions.verification.axes import AXES
from polygen_stream.micro.edits import CATEGORY

FIELDS = ("task", "axis", "category", "concept", "caption", "negative", "right")


@dataclass(frozen=True)
class Question:
    """A hard negative to be judged."""

    task: int
    axis: str
    category: str  # SugarCrepe's
    concept: str
    caption: str
    negative: str


@dataclass(frozen=True)
class Verdict:
    """What a person said of a hard negative on an axis: whether it is right."""

    axis: str
    right: bool


def journal_of(run: Path) -> Path:
    """The journal of a run folder, or the journal itself.

    Raises:
        UserError: there is none.
    """
    journal = RunFolder(run).journal if run.is_dir() else run
    if not journal.exists():
        raise UserError(f"{journal} does not exist: give a run folder or its journal.jsonl")
    return journal


def sample_questions(journal: Path, count: int, seed: int) -> list[Question]:
    """Up to `count` hard negatives of a journal, each axis with the share it has there, in the order of task ids.

    So the share of right ones estimates that of the whole run. Which ones are taken depends on seed and journal alone.

    Raises:
        UserError: it is no journal, or has no hard negatives.
    """
    by_axis: dict[str, list[int]] = {}
    for entry in read_journal(journal):
        if isinstance(entry.outcome, Caption) and entry.outcome.negative is not None:
            by_axis.setdefault(entry.task.axis, []).append(entry.task.task_id)
    if not by_axis:
        raise UserError(f"{journal} has no hard negatives: audit a run whose curriculum asks for some")
    chosen: set[int] = set()
    for axis, quota in _quotas({axis: len(tasks) for axis, tasks in by_axis.items()}, count).items():
        chosen.update(sorted(by_axis[axis], key=lambda task: key(seed, "audit captions", task))[:quota])
    questions = []
    for entry in read_journal(journal):
        task, written = entry.task, entry.outcome
        if task.task_id in chosen and isinstance(written, Caption) and written.negative is not None:
            category = AXES[task.axis].category if task.axis in AXES else CATEGORY[task.axis]
            questions.append(Question(task.task_id, task.axis, category, task.concept, written.text, written.negative))
    return questions


def _quotas(sizes: dict[str, int], count: int) -> dict[str, int]:
    """`count` divided in proportion to the sizes, by largest remainder."""
    total = sum(sizes.values())
    count = min(count, total)
    exact = {name: count * size / total for name, size in sizes.items()}
    quotas = {name: int(quota) for name, quota in exact.items()}
    left = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in left[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts that the page saved, as JSON or CSV; those without a verdict are left out.

    Raises:
        UserError: it cannot be read, or is no such file, or nothing in it was judged.
    """
    text = read_text(path, "verdicts file")
    try:
        rows = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else json.loads(text)["verdicts"]
        said = {"true": True, "false": False, True: True, False: False, "": None, None: None}
        verdicts = [(str(row["axis"]), said[row["right"]]) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error):
        raise UserError(f"{path} holds no verdicts: give the file that the page of `audit captions` saved") from None
    judged = [Verdict(axis, right) for axis, right in verdicts if right is not None]
    if not judged:
        raise UserError(f"{path}: nothing of it was judged; open the page, press r or w for each, and save again")
    return judged


def accuracy(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """{axis or "all": share of right ones with its 95 % Wilson interval}, axes by name, "all" last."""
    axes = {v.axis: [w.right for w in verdicts if w.axis == v.axis] for v in sorted(verdicts, key=lambda v: v.axis)}
    return {
        name: proportion_with_interval(np.array(right, float))
        for name, right in (axes | {"all": [v.right for v in verdicts]}).items()
    }
