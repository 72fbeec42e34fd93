"""`polygen-stream evaluate`: runs tasks on one model and leaves the scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import check_writable
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import describe_model, load_encoder, resolve_checkpoint
from polygen_stream.evaluate.score import Score
from polygen_stream.evaluate.scores_file import add_scores, read_scores, write_scores
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.train.checkpoint import read_meta
from polygen_stream.train.device import training_device


def evaluate(
    name: str,
    pretrained: str | None,
    tasks: Sequence[str],
    root: str | None,
    device: str,
    threads: int,
    workers: int,
    as_json: Path | None,
    console: Console,
) -> None:
    """Score a checkpoint, a run's last one, or an open_clip model; show the scores and write them.

    They go to `as_json`, and of a run's checkpoint also into the run folder, beside what was found there before, for
    the report. Where the run folder cannot be written, `as_json` or the terminal has them alone. When a task fails, the
    scores of those before it are shown and written like all.

    Raises:
        UserError: a model, task or dataset that cannot be used, or a file that cannot be written.
    """
    training_device(device, key="--device")
    if as_json:
        check_writable(as_json)
    kept = _file_in_run(resolve_checkpoint(name)) if pretrained is None else None
    if kept and not _can_be_kept(kept, as_json, console):
        kept = None
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(logging.ERROR)  # open_clip reports what it loads
    data = Data(load_encoder(name, pretrained, device), root, workers)
    found: dict[str, dict[str, Score]] = {}
    try:
        with console.status("evaluating") as status:
            run_tasks(data, tasks, lambda task: status.update(f"evaluating {_shown(task)}"), found.__setitem__)
    finally:  # what was computed is kept, also when a later task fails, or at Ctrl-C
        if found:
            _show(found, data.read, console)
            scores = {task: {key: one.to_dict() for key, one in part.items()} for task, part in found.items()}
            content = {
                "model": describe_model(name, pretrained),
                "scores": scores,
                "read": data.read,
                "correct": data.correct,
            }
            _write(content, kept, as_json, console)


def _can_be_kept(kept: Path, as_json: Path | None, console: Console) -> bool:
    """Whether the run's own file can take scores; a run of another user may be read-only.

    Raises:
        UserError: there are scores that nothing can be added to.
    """
    read_scores(kept)
    try:
        check_writable(kept, makes_folder=True)
    except UserError as problem:
        elsewhere = f"they go to {as_json} alone" if as_json else "write them elsewhere with --json FILE"
        console.print(f"the scores will not be kept in the run: {_shown(str(problem))}; {elsewhere}", soft_wrap=True)
        return False
    return True


def _write(content: Mapping[str, Any], kept: Path | None, as_json: Path | None, console: Console) -> None:
    """Write every file that can be written.

    Raises:
        UserError: one of them cannot.
    """
    problems: list[UserError] = []
    for file, write in ((kept, add_scores), (as_json, write_scores)):
        if file is None:
            continue
        try:
            write(file, content)
            console.print(f"scores: {_shown(str(file))}", soft_wrap=True)
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise UserError("; ".join(map(str, problems)))


def _file_in_run(checkpoint: Path) -> Path | None:
    """evaluations/step_NNNNNN.json of the run that a checkpoint lies in, if it lies in one."""
    checkpoint = checkpoint.resolve()
    run = RunFolder(checkpoint.parent.parent)
    if checkpoint.parent != run.checkpoints or not run.config.exists():
        return None
    return run.evaluation(read_meta(checkpoint)["step"])


def _show(found: Mapping[str, Mapping[str, Score]], read: Mapping[str, Sequence[str]], console: Console) -> None:
    console.print(_table(found))
    for name, lines in read.items():
        console.print(f"read {_shown(name)}: {_shown('; '.join(lines))}", soft_wrap=True)


def _shown(text: str) -> str:
    """As it can be printed: no markup, and no bytes of a file name that are not UTF-8."""
    return escape(text.encode("utf-8", "backslashreplace").decode())


def _table(found: Mapping[str, Mapping[str, Score]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "score", "% [95 % interval]", "chance", "n"):
        justify = "left" if heading in ("task", "score") else "right"
        if heading == "task":  # a dataset's path may be long: it is what gives way, on lines of its own
            table.add_column(heading, justify=justify, overflow="fold")
        else:
            table.add_column(heading, justify=justify, no_wrap=True)
    for task, scores in found.items():
        for row, (name, s) in enumerate(scores.items()):
            shown = f"{100 * s.score:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]"
            chance = "-" if s.chance is None else f"{100 * s.chance:.1f}"
            table.add_row(_shown(task) if row == 0 else "", _shown(name.replace("_", " ")), shown, chance, str(s.n))
    return table
