"""The evaluator process: scores checkpoints as they appear, and ends with the final one."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from polygen_stream.errors import UserError
from polygen_stream.evaluate.micro_suite import MicroSuite, build_suite, chance
from polygen_stream.evaluate.score import Scorer
from polygen_stream.micro.world import Split
from polygen_stream.role import RoleContext, run_role
from polygen_stream.train.checkpoint import list_checkpoints, read_meta
from polygen_stream.train.model import load_clip

POLL_S = 0.25


def main(context: RoleContext) -> None:
    config = context.config.evaluate
    logging.basicConfig(level=logging.INFO)
    suites = {split: build_suite(split, config.images_per_thing) for split in Split}
    done: set[int] = set()
    while not context.stopping:
        context.ring.heartbeat("waiting for a checkpoint")
        checkpoint = _next_checkpoint(context.run_dir, done, config.every)
        if checkpoint is None:
            time.sleep(POLL_S)
            continue
        step, folder = checkpoint
        context.ring.heartbeat(f"evaluating step {step}")
        try:
            final = read_meta(folder)["final"]
            line = {"step": step, "final": final, **evaluate(folder, suites, config.device)}
        except UserError:
            if folder.exists():
                raise
            logging.info("step %d was retired before it was evaluated", step)
            done.add(step)
            continue
        with open(context.run_dir / "eval.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        done.add(step)
        logging.info("step %d: zero-shot things %.3f", step, line["metrics"]["zero_shot_things"])
        if final:
            return


def evaluate(checkpoint: Path, suites: dict[Split, MicroSuite], device: str) -> dict[str, object]:
    """{"metrics": unseen scores with the seen ones under "seen", "chance": ...} of a checkpoint folder.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    scorer = Scorer(*load_clip(checkpoint, device), device)
    return {
        "metrics": {**scorer.score(suites[Split.UNSEEN]), "seen": scorer.score(suites[Split.SEEN])},
        "chance": chance(),
    }


def _next_checkpoint(run_dir: Path, done: set[int], every: int) -> tuple[int, Path] | None:
    """The untrained model first, then the newest one that is due: the final one, or a multiple of `every` steps."""
    waiting = [(step, folder) for step, folder in list_checkpoints(run_dir) if step not in done]
    if waiting and waiting[0][0] == 0:
        return waiting[0]
    for step, folder in reversed(waiting):
        try:
            final = read_meta(folder)["final"]
        except UserError:  # retired between the listing and the reading
            continue
        if final or (every and step % every == 0):
            return step, folder
    return None


if __name__ == "__main__":
    run_role(main, "evaluator")
