"""Replaying a run: the same captions and the same batches, from what it wrote down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig, load_config
from polygen_stream.ring.draw_log import read_draw_log

# What decided in the run that is replayed when captions came and went; now the draw log does.
SETTINGS = {
    "ring.mode": "replay",
    "ring.window": "0",
    "ring.max_times_sampled": "0",
    "ring.max_age": "0",
    "ring.samples_per_insert": "0",
    "ring.error_buffer": "0",
    "ring.catch_up": "1",
    "curriculum.leftover_age": "0",
    "synthesis.policy": "uniform",
    "captions.target": "0",
    "launch.record_shards": "",  # its folder has the run's own pictures
}


def replay_of(folder: Path) -> tuple[RunConfig, Callable[[Path], None]]:
    """Return the config of a replay of the run in `folder`, and what fills its run folder.

    Captions that no step drew are left out.

    Raises:
        UserError: no run folder, or a step is missing from its draw log.
    """
    run = RunFolder.open(folder)
    before = load_config(run.config)
    if before.captions.source == "shards":
        raise UserError(
            f"{run} trained from the shards in {before.captions.shards} and has no journal to replay: run it again, "
            f"`polygen-stream run {run.config}`"
        )
    for file in (run.journal, run.draw_log):
        if not file.is_file():
            raise UserError(f"{run} has no {file.name}: name the folder of a completed run")
    if before.launch.nodes > 1:
        raise UserError(
            f"{run} is one of {before.launch.nodes} nodes' part of a run: only runs of one node are replayed"
        )
    config = load_config(run.config, {**SETTINGS, "name": f"{before.name}-replay"})
    draws = list(read_draw_log(run.draw_log))
    if [draw.step for draw in draws] != list(range(config.train.steps)):
        raise UserError(
            f"{run} drew {len(draws)} of {config.train.steps} steps: finish it first, "
            f"`polygen-stream run --resume {run}`"
        )
    drawn = {task for draw in draws for task in draw.task_ids}

    def fill(run_dir: Path) -> None:
        new = RunFolder(run_dir)
        shutil.copyfile(run.draw_log, new.replay_schedule)
        with new.journal.open("w", encoding="utf-8") as journal:
            for line in read_jsonl(run.journal, strict=True):
                task = line.get("task")
                number = task.get("task_id") if isinstance(task, dict) else None
                if not isinstance(number, int) or number in drawn:  # what is no entry the captioner refuses
                    journal.write(json.dumps(line) + "\n")

    return config, fill
