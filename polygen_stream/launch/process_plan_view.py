"""What `run --dry-run` prints: the processes, the ring, the amounts, and whether it all fits this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from polygen_stream.base.errors import UserError
from polygen_stream.config import (
    RunConfig,
    TrainConfig,
    curriculum_shares,
    evaluated_tasks,
    expected_group_draws,
    no_scores,
    warmup_warning,
)
from polygen_stream.launch.process_plan import MIB, ProcessPlan
from polygen_stream.ring import ring_bytes
from polygen_stream.ring.memory import available_bytes
from polygen_stream.ring.pixel_file import file_bytes


def show_process_plan(
    config: RunConfig,
    plan: ProcessPlan,
    run_dir: os.PathLike[str],
    console: Console,
    here: bool = True,
    tasks_at_the_ends: Sequence[str] = (),
) -> None:
    """Print the plan: a table on a terminal, one line per process anywhere else.

    Args:
        config: Of the run.
        plan: What it starts.
        run_dir: Its folder.
        console: Where the plan is printed.
        here: Whether it is for this machine, whose memory and cores it is then compared with.
        tasks_at_the_ends: What the untrained and the final model are scored on besides.

    Raises:
        UserError: The ring alone is larger than the memory that is available.
    """
    checks = _checks(plan) if here else [("memory", f"about {plan.memory_bytes / MIB:.0f} MiB, ring included")]
    console.print(f"{config.name}: seed {config.seed}, run folder {run_dir}", soft_wrap=True)
    rows = [
        (process.label, process.device, str(process.threads), f"{process.memory_bytes / MIB:.0f} MiB")
        for process in plan.processes
    ]
    rows.append(("ring", "memory", "", f"{ring_bytes(plan.ring) / MIB:.0f} MiB"))
    if console.is_terminal:
        table = Table("process", "device", "threads", "memory (estimate)")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for label, device, threads, memory in rows:
            console.print(f"  {label:<28} {device:<8} {threads:>3}  {memory:>9}", soft_wrap=True)
    for name, text in [*_amounts(config, plan, here, tasks_at_the_ends), *checks, *_warnings(config.train)]:
        console.print(f"{name + ':':<12} {text}", soft_wrap=True)


def _amounts(
    config: RunConfig, plan: ProcessPlan, here: bool, tasks_at_the_ends: Sequence[str]
) -> list[tuple[str, str]]:
    generators, captions, train, ring = config.generators, config.captions, config.train, plan.ring
    size = "x".join(str(side) for side in ring.image_shape[:2])
    draws = expected_group_draws(config)
    first, *_, last = curriculum_shares(config)
    share = f"{first:g}" if first == last else f"{first:g} -> {last:g}"
    training = f"{train.steps} steps of {train.batch} texts (hard-negative share {share}), {draws} caption draws"
    if captions.target:
        positives, images = captions.target * generators.positives, generators.positives + generators.negatives
        production = f"at most {captions.target} captions x {generators.positives} images = {positives}"
        production += f" (with negatives {captions.target * images})"
        training += f", at least {draws / captions.target:.1f} of each caption on average"
    else:
        production = f"captions until training ends, {generators.positives} images each"
    if captions.source == "shards":
        production += f", read from {captions.shards}"
    else:
        production += f", {len(generators.recipes)} generators, batches of {generators.batch}"
    if (synthesis := config.synthesis).policy != "uniform":
        production += f"; each caption chosen among {synthesis.candidates} tasks by the policy {synthesis.policy}"
    held = f"{ring.slots} images of {size}, {ring.groups} captions; {ring.min_fill} before step 0"
    if ring.storage:
        held += f"; images in {Path(ring.storage).absolute()}, {file_bytes(ring) / 2**30:.1f} GiB on disk"
    return [
        ("ring", held),
        ("production", production),
        ("training", training),
        ("evaluation", _evaluation(config, plan, here, tasks_at_the_ends)),
    ]


def _evaluation(config: RunConfig, plan: ProcessPlan, here: bool, tasks_at_the_ends: Sequence[str]) -> str:
    every, text = config.evaluate.every, no_scores(config)
    if not text:
        when = f"at step 0, every {every} steps and at the end" if every else "at step 0 and at the end"
        text = f"{', '.join(evaluated_tasks(config))}; {when}"
    if tasks_at_the_ends:
        text += f"; {', '.join(tasks_at_the_ends)} at step 0 and at the end"
    after = [plan.after_training(process) for process in plan.with_role("evaluator", "report")]
    if after:
        text += f"; when training is over: {', '.join(f'{process.label} on {process.device}' for process in after)}"
    if after and here:  # no more threads than this machine has cores
        text += f", with {after[0].threads} threads"
    return text


def _warnings(train: TrainConfig) -> list[tuple[str, str]]:
    text = warmup_warning(train)
    return [("warning", text)] if text else []


def _checks(plan: ProcessPlan) -> list[tuple[str, str]]:
    available, source = available_bytes()
    if ring_bytes(plan.ring) > available:
        raise UserError(
            f"the ring needs {ring_bytes(plan.ring) / MIB:.0f} MiB but only {available / MIB:.0f} MiB are "
            f"available ({source}); lower ring.slots or ring.image_size"
        )
    needed, there = plan.memory_bytes / MIB, available / MIB
    fits = "fits" if needed <= there else "TOO LITTLE: use fewer generators, or close other programs"
    cores = len(os.sched_getaffinity(0))
    shared = ", which they share" if plan.threads > cores else ""
    return [
        ("memory", f"about {needed:.0f} of {there:.0f} MiB available ({source}): {fits}"),
        ("threads", f"{plan.threads} compute threads on {cores} cores{shared}"),
    ]
