"""`polygen-stream evaluate`: runs tasks on one model and leaves the scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import describe_model, load_encoder, resolve_checkpoint
from polygen_stream.evaluate.score import Score
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
    the report.

    Raises:
        UserError: a model, task or dataset that cannot be used.
    """
    if as_json and not as_json.resolve().parent.is_dir():
        raise UserError(f"cannot write {as_json}: there is no folder {as_json.resolve().parent}")
    if as_json and as_json.is_dir():
        raise UserError(f"--json {as_json} is a folder: name a file")
    training_device(device, key="--device")
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(logging.ERROR)  # open_clip reports what it loads
    data = Data(load_encoder(name, pretrained, device), root, workers)
    with console.status("evaluating") as status:
        found = run_tasks(data, tasks, lambda task: status.update(f"evaluating {task}"))
    console.print(_table(found))
    scores = {task: {key: one.to_dict() for key, one in part.items()} for task, part in found.items()}
    content = {"model": describe_model(name, pretrained), "scores": scores}
    files = [as_json] if as_json else []
    if pretrained is None and (kept := _file_in_run(resolve_checkpoint(name))):
        earlier = read_json(kept).get("scores", {})
        kept.parent.mkdir(exist_ok=True)
        write_json(kept, {**content, "scores": {**earlier, **scores}}, allow_nan=False)
        console.print(f"scores: {kept}", soft_wrap=True)
    for file in files:
        write_json(file, content, allow_nan=False)
        console.print(f"scores: {file}", soft_wrap=True)


def _file_in_run(checkpoint: Path) -> Path | None:
    """evaluations/step_NNNNNN.json of the run that a checkpoint lies in, if it lies in one."""
    checkpoint = checkpoint.resolve()
    run = RunFolder(checkpoint.parent.parent)
    if checkpoint.parent != run.checkpoints or not run.config.exists():
        return None
    return run.evaluation(read_meta(checkpoint)["step"])


def _table(found: Mapping[str, Mapping[str, Score]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "score", "% [95 % interval]", "chance", "n"):
        # A dataset's path may be long: it is what gives way, on lines of its own.
        wraps = {"overflow": "fold"} if heading == "task" else {"no_wrap": True}
        table.add_column(heading, justify="left" if heading in ("task", "score") else "right", **wraps)
    for task, scores in found.items():
        for row, (name, s) in enumerate(scores.items()):
            shown = f"{100 * s.score:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]"
            chance = "-" if s.chance is None else f"{100 * s.chance:.1f}"
            table.add_row(task if row == 0 else "", name.replace("_", " "), shown, chance, str(s.n))
    return table
