"""Replaying a run: the same captions and the same batches, from what it wrote down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.config import RunConfig, load_config

# What decided in the run that is replayed when captions came and went; now the draw log does.
SETTINGS = {
    "ring.mode": "replay",
    "ring.window": "0",
    "ring.max_times_sampled": "0",
    "ring.max_age": "0",
    "ring.samples_per_insert": "0",
    "ring.error_buffer": "0",
    "curriculum.leftover_age": "0",
    "captions.target": "0",
    "launch.record_shards": "",  # its folder has the run's own pictures
}


def replay_of(run: Path) -> tuple[RunConfig, Callable[[Path], None]]:
    """The config of a replay of `run`, and what fills its run folder.

    Captions that no step drew are left out.

    Raises:
        UserError: no run folder, or a step is missing from its draw log.
    """
    if (run / "config.toml").is_file() and (config := load_config(run / "config.toml")).captions.source == "shards":
        raise UserError(
            f"{run} trained from the shards in {config.captions.shards} and has no journal to replay: run it again, "
            f"`polygen-stream run {run / 'config.toml'}`"
        )
    for name in ("config.toml", "journal.jsonl", "draw_log.jsonl"):
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name}: name the folder of a completed run")
    before = load_config(run / "config.toml")
    if before.launch.nodes > 1:
        raise UserError(
            f"{run} is one of {before.launch.nodes} nodes' part of a run: only runs of one node are replayed"
        )
    config = load_config(run / "config.toml", {**SETTINGS, "name": f"{before.name}-replay"})
    draws = list(read_jsonl(run / "draw_log.jsonl"))
    if [draw["step"] for draw in draws] != list(range(config.train.steps)):
        raise UserError(
            f"{run} drew {len(draws)} of {config.train.steps} steps: finish it first, "
            f"`polygen-stream run --resume {run}`"
        )
    drawn = {task for draw in draws for task in (*draw["plain"], *draw["pair"])}

    def fill(run_dir: Path) -> None:
        shutil.copyfile(run / "draw_log.jsonl", run_dir / "replay.jsonl")
        with (run_dir / "journal.jsonl").open("w", encoding="utf-8") as journal:
            for line in read_jsonl(run / "journal.jsonl"):
                if "task" not in line or line["task"]["task_id"] in drawn:
                    journal.write(json.dumps(line) + "\n")

    return config, fill
