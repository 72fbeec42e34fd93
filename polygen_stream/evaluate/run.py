"""The evaluator process: scores checkpoints as they appear, and ends with the final one."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import append_jsonl, read_jsonl
from polygen_stream.checkpoints import last_checkpoint, list_checkpoints, read_meta
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.micro_suite import MicroSuite, build_suite, chance
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.micro.world import Split
from polygen_stream.roles.role import RoleContext, run_role, yield_cores
from polygen_stream.train.model import load_clip

POLL_S = 0.25


def main(context: RoleContext) -> None:
    """Score checkpoints until the final one is scored or the run stops."""
    config = context.config.evaluate
    logging.basicConfig(level=logging.INFO)
    if not training_is_over(context.run_dir):
        yield_cores()
    suites = {split: build_suite(split, config.images_per_thing) for split in Split}
    # (step, final): SIGTERM can make a step final that was already scored. An earlier evaluator may have done some.
    done = {
        (line["step"], line["final"]) for line in read_jsonl(context.run_folder.eval_log, required=("step", "final"))
    }
    while not context.stopping:
        context.ring.heartbeat("waiting for a checkpoint")
        checkpoint = next_checkpoint(context.run_dir, done, config.every)
        if checkpoint is None:
            time.sleep(POLL_S)
            continue
        step, final, folder = checkpoint
        context.ring.heartbeat(f"evaluating step {step}")
        try:
            line = {"step": step, "final": final, **evaluate(folder, suites, config.device)}
        except UserError:
            if folder.exists():
                raise
            logging.info("step %d was retired before it was evaluated", step)
            done.add((step, final))
            continue
        append_jsonl(context.run_folder.eval_log, line)
        done.add((step, final))
        logging.info("step %d: zero-shot things %.3f", step, line["metrics"]["zero_shot_things"])
        if final:
            return


def training_is_over(run_dir: Path) -> bool:
    """Whether the newest checkpoint is the final one, so that no other process needs the cores."""
    checkpoint = last_checkpoint(run_dir)
    return checkpoint is not None and read_meta(checkpoint[1])["final"]


def evaluate(checkpoint: Path, suites: dict[Split, MicroSuite], device: str) -> dict[str, object]:
    """{"metrics": unseen scores with the seen ones under "seen", "intervals": ..., "chance": ...} of a checkpoint.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    encoder = Encoder(*load_clip(checkpoint, device), device)
    unseen, seen = (score_suite(encoder, suites[split]) for split in (Split.UNSEEN, Split.SEEN))
    return {
        "metrics": {**unseen.values(), "seen": seen.values()},
        "intervals": {**unseen.intervals(), "seen": seen.intervals()},  # 95 %
        "chance": chance(),
    }


def next_checkpoint(run_dir: Path, done: set[tuple[int, bool]], every: int) -> tuple[int, bool, Path] | None:
    """(step, final, folder) of the untrained model first, then of the newest one that is due.

    Due are the final one and multiples of `every` steps.
    """
    due = []
    for step, folder in list_checkpoints(run_dir):
        try:
            final = read_meta(folder)["final"]
        except UserError:  # retired between the listing and the reading
            continue
        if (step, final) not in done and (step == 0 or final or (every and step % every == 0)):
            due.append((step, final, folder))
    if due and due[0][0] == 0:
        return due[0]
    return due[-1] if due else None


if __name__ == "__main__":
    run_role(main, "evaluator")
