"""The evaluator process: scores checkpoints as they appear, and ends with the final one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.eval_log import read_evaluations
from polygen_stream.base.jsonl import append_jsonl
from polygen_stream.checkpoints import last_checkpoint, list_checkpoints, read_meta
from polygen_stream.config import EvaluateConfig
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.micro_suite import MicroSuite, build_suite, chance
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.evaluate.tasks import run_tasks
from polygen_stream.evaluate.transfer.folder import tasks_at_the_ends
from polygen_stream.micro.world import Split
from polygen_stream.roles.role import RoleContext, run_role, yield_cores
from polygen_stream.train.device import training_device
from polygen_stream.train.model import load_clip

POLL_S = 0.25


@dataclass(frozen=True)
class Evaluation:
    """What every checkpoint of a run is scored on.

    Attributes:
        suites: Of the micro world, by split; empty in a run that has another.
        tasks: Names of further tasks.
        tasks_at_the_ends: Names of those of the untrained and the final model alone.
        root: Where these find standard datasets, None = nowhere.
    """

    suites: dict[Split, MicroSuite]
    tasks: tuple[str, ...] = ()
    tasks_at_the_ends: tuple[str, ...] = ()
    root: str | None = None

    @classmethod
    def of(cls, config: EvaluateConfig, bank: str) -> Evaluation:
        """Return the evaluation of a run whose captions are about this bank's concepts.

        In the micro world that includes the pictures of the task `transfer`, if they are in the default folder.
        """
        if bank != "micro":
            return cls({}, config.tasks, root=config.data or None)
        suites = {split: build_suite(split, config.images_per_thing) for split in Split}
        return cls(suites, config.tasks, tasks_at_the_ends(config, bank), config.data or None)

    def at(self, step: int, final: bool) -> Evaluation:
        """Return what the checkpoint of a step is scored on."""
        ends = self.tasks_at_the_ends if step == 0 or final else ()
        return replace(self, tasks=(*self.tasks, *ends), tasks_at_the_ends=())


def main(context: RoleContext) -> None:
    """Score checkpoints until the final one is scored or the run stops."""
    config = context.config.evaluate
    logging.basicConfig(level=logging.INFO)
    if not training_is_over(context.run_dir):
        yield_cores()
    training_device(context.device, key="evaluate.device")
    logging.info("on %s, %d threads", context.device, torch.get_num_threads())
    evaluation = Evaluation.of(config, context.config.captions.bank)
    # (step, final): SIGTERM can make a step final that was already scored. An earlier evaluator may have done some.
    done = {(line["step"], line["final"]) for line in read_evaluations(context.run_folder.eval_log)}
    while not context.stopping:
        context.ring.heartbeat("waiting for a checkpoint")
        checkpoint = next_checkpoint(context.run_dir, done, config.every)
        if checkpoint is None:
            time.sleep(POLL_S)
            continue
        step, final, folder = checkpoint
        doing = f"evaluating step {step}"
        context.ring.heartbeat(doing)
        _append(context.run_folder.eval_log)  # before hours of computing
        try:
            scores = evaluate(
                folder,
                evaluation.at(step, final),
                context.device,
                lambda task, doing=doing: context.ring.heartbeat(f"{doing}: {task}"),
            )
        except UserError:
            if folder.exists():
                raise
            logging.info("step %d was retired before it was evaluated", step)
            done.add((step, final))
            continue
        _append(context.run_folder.eval_log, {"step": step, "final": final, **scores})
        done.add((step, final))
        logging.info("step %d: %s", step, _headline(scores))
        if final:
            return


def _append(file: Path, *lines: dict[str, Any]) -> None:
    """Add lines to the scores of the run; none: find out whether that is possible.

    Raises:
        PolygenError: It is not. It may be later, when this process is started again.
    """
    try:
        with file.open("a", encoding="utf-8"):
            pass
        for line in lines:
            append_jsonl(file, line)
    except OSError as problem:
        raise PolygenError(f"cannot write scores into {file}: {problem.strerror}") from problem


def training_is_over(run_dir: Path) -> bool:
    """Whether the newest checkpoint is the final one, so that no other process needs the cores."""
    checkpoint = last_checkpoint(run_dir)
    return checkpoint is not None and read_meta(checkpoint[1])["final"]


def evaluate(
    checkpoint: Path, evaluation: Evaluation, device: str, started: Callable[[str], None] = lambda task: None
) -> dict[str, Any]:
    """Return what eval.jsonl has of a checkpoint.

    Args:
        checkpoint: Its folder.
        evaluation: What it is scored on.
        device: Where it computes.
        started: Called with the name of each further task before it.

    Returns:
        "metrics", "intervals" and "chance" of the micro suite: unseen scores, with the seen ones under "seen"; {}
        without it. "tasks": {task: {score: {"score", "low", "high", "n", "chance"}}} of the further tasks. "failed":
        {task: why} of those that could not be scored.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    encoder = Encoder(*load_clip(checkpoint, device), device)
    found: dict[str, Any] = {**_micro_suite(encoder, evaluation.suites), "tasks": {}, "failed": {}}
    data = Data(encoder, evaluation.root)
    for task in evaluation.tasks:
        try:
            [scores] = run_tasks(data, [task], started).values()
            found["tasks"][task] = {name: score.to_dict() for name, score in scores.items()}
        except UserError as problem:  # of one task: the others have scores all the same
            found["failed"][task] = str(problem)
            logging.warning("%s: %s", task, problem)
    for name, lines in data.read.items():
        logging.info("read %s: %s", name, "; ".join(lines))
    return found


def _micro_suite(encoder: Encoder, suites: dict[Split, MicroSuite]) -> dict[str, Any]:
    if not suites:
        return {"metrics": {}, "intervals": {}, "chance": {}}
    unseen, seen = (score_suite(encoder, suites[split]) for split in (Split.UNSEEN, Split.SEEN))
    return {
        "metrics": {**unseen.values(), "seen": seen.values()},
        "intervals": {**unseen.intervals(), "seen": seen.intervals()},  # 95 %
        "chance": chance(),
    }


def _headline(scores: dict[str, Any]) -> str:
    found = [("zero-shot things", scores["metrics"]["zero_shot_things"])] if scores["metrics"] else []
    for task, parts in scores["tasks"].items():
        name, first = next(iter(parts.items()))
        found.append((f"{task} {name}", first["score"]))
    return ", ".join(f"{name} {score:.3f}" for name, score in found)


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
