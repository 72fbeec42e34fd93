"""summary.json: what a run did, in the numbers its owner asks for first."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from polygen_stream.base.errors import UserError
from polygen_stream.base.eval_log import BY_EDIT, SUGARCREPE_PP, SUITE, read_evaluations
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.records import is_count
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig, evaluated_tasks
from polygen_stream.launch.events import events
from polygen_stream.launch.role_table import PRODUCERS
from polygen_stream.launch.watch.metrics_tail import METRIC_KINDS
from polygen_stream.ring import RingStats

METRICS = ("step", "time", "wait_s", "step_s", "images", "images_committed")
EVALUATION_KEYS = (*SUITE, *SUGARCREPE_PP, BY_EDIT)


def summarize(
    run_dir: Path,
    status: str,
    error: str | None,
    seconds: float,
    seconds_to_first_step: float | None,
    stats: RingStats,
    missing: Sequence[dict[str, str]] = (),
    no_scores: str = "",
) -> dict:
    """Return the content of summary.json. Shares lie in [0, 1]; what never happened is None.

    Args:
        run_dir: The run folder.
        status: completed, interrupted or failed.
        error: Why it was not completed.
        seconds: From the supervisor's start to its end.
        seconds_to_first_step: From the supervisor's start to the end of the first optimizer step.
        stats: Of the ring, at the end.
        missing: What a completed run lacks, see `missing_scores`.
        no_scores: Why its checkpoints were not to be scored; "" = they were.
    """
    images = dict(stats.images_committed)
    run = RunFolder(run_dir)
    training = _training(read_jsonl(run.metrics, METRICS, METRIC_KINDS), sum(images.values()))
    return {
        "status": status,
        "error": error,
        "steps": training["steps"],
        "seconds": round(seconds, 3),
        "seconds_to_first_step": seconds_to_first_step and round(seconds_to_first_step, 3),
        "steps_per_second": training["steps_per_second"],
        "images": images,
        "images_total": sum(images.values()),
        "images_drawn": stats.images_drawn,
        "images_seen": training["images_seen"],
        "captions": stats.groups_opened,
        "captions_refused": refusals(read_jsonl(run.journal)),
        "mean_reuse": stats.mean_reuse,
        "waiting": {
            "trainer_share": training["trainer_wait_share"],
            "producer_limiter_share": {
                row["name"]: wait_share(row) for row in stats.processes if row["role"] in PRODUCERS
            },
        },
        "trainer_wait": training["trainer_wait"],
        "overlap": training["overlap"],
        "restarts": events(run_dir, "restart"),
        "degraded": events(run_dir, "degraded"),
        "resumes": events(run_dir, "resume"),
        "unusable_checkpoints": events(run_dir, "unusable"),
        "recorder": recorder_summary(run_dir, stats),
        "evaluation": evaluation(read_evaluations(run.eval_log)) | {"no_scores": no_scores},
        "missing": list(missing),
    }


def missing_scores(config: RunConfig, run_dir: Path, why: str) -> dict[str, str]:
    """Return what a run lacks whose final checkpoint has no scores: {"what", "why", "command"}, which makes them."""
    command = _evaluate_command(config, run_dir, evaluated_tasks(config))
    return {"what": "scores of the final checkpoint", "why": why, "command": command}


def missing_tasks(config: RunConfig, run_dir: Path) -> list[dict[str, str]]:
    """Return the same of single tasks that could not be scored on the final checkpoint."""
    failed: dict[str, str] = {}
    with suppress(UserError):  # that it cannot be read is why all scores are missing
        for line in read_evaluations(RunFolder(run_dir).eval_log):
            if line["final"] and line["step"] == config.train.steps:
                failed = line.get("failed", {})
    return [
        {"what": f"scores of {task}", "why": why, "command": _evaluate_command(config, run_dir, (task,))}
        for task, why in failed.items()
    ]


def missing_report(config: RunConfig, run_dir: Path, why: str) -> dict[str, str]:
    """Return the same of a run without a report."""
    words = ["polygen-stream", "report", str(run_dir), *_on_device(config)]
    return {"what": "report", "why": why, "command": shlex.join(words)}


def _evaluate_command(config: RunConfig, run_dir: Path, tasks: Sequence[str]) -> str:
    words = ["polygen-stream", "evaluate", str(run_dir), "--tasks", ",".join(tasks)]
    words += ["--data", config.evaluate.data] if config.evaluate.data else []
    return shlex.join([*words, *_on_device(config)])


def _on_device(config: RunConfig) -> list[str]:
    return ["--device", config.train.device] if config.train.device != "cpu" else []


def incomplete(
    status: str, error: str | None, seconds: float, missing: Sequence[dict[str, str]], problem: Exception
) -> dict:
    """Return what is left of a summary of a run one of whose files cannot be read: how it ended, and which file."""
    known = {"status": status, "error": error, "seconds": round(seconds, 3), "missing": list(missing)}
    return {**known, "incomplete": str(problem)}


def recorder_summary(run_dir: Path, stats: RingStats) -> dict | None:
    """Return what the shards have, and how many complete captions they miss; None without a recorder.

    Captions are missing that made room in the ring before the recorder got to them, or after it was given up.
    """
    state = RunFolder(run_dir).recorder_state
    so_far, given_up = read_json(state, kinds={"captions": is_count}), events(run_dir, "recorder")
    if not so_far and not given_up:
        return None
    missing = max(0, stats.groups_completed - so_far.get("captions", 0))
    return {**so_far, "missing": missing, "given_up": [event["reason"] for event in given_up]}


def refusals(journal: Iterable[dict]) -> dict:
    """Return what was refused: tasks dropped; replies by reason, most frequent first; and what became of tasks by axis.

    Of an axis: tasks accepted at once, accepted after refused replies, dropped, and hard negatives that were written.
    """
    dropped, reasons, by_axis = 0, Counter(), {}
    for line in journal:
        outcome = line.get("caption") or line.get("dropped")
        if not outcome:
            continue  # this line says who wrote the next ones
        dropped += "dropped" in line
        reasons.update(outcome["rejected"])
        counts = by_axis.setdefault(
            line["task"]["axis"], {"accepted": 0, "retried": 0, "dropped": 0, "hard_negatives": 0}
        )
        counts["dropped" if "dropped" in line else "retried" if outcome["rejected"] else "accepted"] += 1
        counts["hard_negatives"] += outcome.get("negative") is not None
    return {"tasks_dropped": dropped, "replies": dict(reasons.most_common()), "by_axis": dict(sorted(by_axis.items()))}


def wait_share(row: dict) -> float | None:
    """Return the share of a process's time that it spent waiting for the ring, from its row of the process table."""
    total = row["wait_s"] + row["busy_s"]
    return round(row["wait_s"] / total, 4) if total else None


def evaluation(lines: Iterable[dict]) -> dict:
    """Return what the lines of eval.jsonl say of the trained and the untrained model, None for what was not evaluated.

    Returns:
        "trained", "untrained" and "chance" of the micro suite; and "tasks": {task: {score: {the same three}}}.
    """
    trained = untrained = chance = None
    tasks: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in lines:
        chance = _pick(line.get("chance"))
        if line["step"] == 0:
            untrained = _pick(line.get("metrics"))
            _add_tasks(tasks, line, "untrained")
        if line["final"]:
            trained = _pick(line.get("metrics"))
            _add_tasks(tasks, line, "trained")
    return {"trained": trained, "untrained": untrained, "chance": chance, "tasks": tasks}


def _pick(metrics: dict | None) -> dict | None:
    return {key: metrics.get(key) for key in EVALUATION_KEYS} if metrics else None


def _add_tasks(tasks: dict[str, dict[str, dict[str, float | None]]], line: dict, who: str) -> None:
    for task, scores in line.get("tasks", {}).items():
        for name, score in scores.items():
            known = {"trained": None, "untrained": None, "chance": score.get("chance")}
            tasks.setdefault(task, {}).setdefault(name, known)[who] = score["score"]


def newest_scores(run_dir: Path) -> dict | None:
    """Return the newest evaluation in a few numbers, {"step", "scores": {name: share}}; None before the first one.

    Of every task its first score, which is its headline.
    """
    lines = [*read_evaluations(RunFolder(run_dir).eval_log)]
    if not lines:
        return None
    newest = lines[-1]
    metrics = newest.get("metrics", {})
    scores = {key: metrics[key] for key in EVALUATION_KEYS[:-1] if key in metrics}
    for task, parts in newest.get("tasks", {}).items():
        for name, score in [*parts.items()][:1]:
            scores[f"{task} {name}"] = score["score"]
    return {"step": newest["step"], "scores": scores}


def _training(lines: Iterable[dict], images_total: int) -> dict:
    """What metrics.jsonl adds up to, in one pass. `images_total`: images committed by the end of the run."""
    steps = counted = grew = images_seen = 0
    wait_s = load_wait_s = step_s = 0.0
    first = last = None
    for line in lines:
        first = first or line
        logged = line["step"] - last["step"] if last else 1  # steps this line stands for (train.log_every)
        steps = max(steps, line["step"] + 1)
        wait_s += line["wait_s"]
        load_wait_s += line.get("load_wait_s", 0.0)
        step_s += line["step_s"]
        images_seen += line["images"] * logged
        # The share is taken over the steps until the production target was met.
        if last is not None and last["images_committed"] < images_total:
            counted += 1
            grew += line["images_committed"] > last["images_committed"]
        last = line
    logged, seconds = (last["step"] - first["step"], last["time"] - first["time"]) if first and last else (0, 0.0)
    return {
        "steps": steps,
        "steps_per_second": round(logged / seconds, 4) if seconds else None,
        "images_seen": images_seen,
        "trainer_wait_share": round(wait_s / (wait_s + step_s), 4) if wait_s + step_s else None,
        "trainer_wait": {
            "first_batch_s": first and round(first["wait_s"], 3),
            "share_after_first_batch": _share_after(first, wait_s, step_s) if first else None,
            "loading_share": _loading_share(wait_s, load_wait_s, step_s),
        },
        "overlap": {
            "images_at_first_step_share": (
                round(first["images_committed"] / images_total, 4) if first and images_total else None
            ),
            "commit_step_share": round(grew / counted, 4) if counted else None,
        },
    }


def _loading_share(wait_s: float, load_wait_s: float, step_s: float) -> float | None:
    """The share of the time in which training waited for a batch to be read, which a slow disk makes larger."""
    in_all = wait_s + load_wait_s + step_s
    return round(load_wait_s / in_all, 4) if in_all else None


def _share_after(first: dict, wait_s: float, step_s: float) -> float | None:
    """The share of waiting without the first line, whose wait is that for the ring's fill."""
    waited, worked = wait_s - first["wait_s"], step_s - first["step_s"]
    return round(waited / (waited + worked), 4) if waited + worked > 0 else None


def conclude(result: dict, run_dir: Path) -> None:
    """Print how a run ended: the headline of a completed one, else why, and how to go on."""
    again = f"polygen-stream run --resume {run_dir}"
    if result["status"] == "failed":
        print(f"error: {result['error']}\n  run folder: {run_dir}\n  to go on: {again}", file=sys.stderr)
    elif result["status"] == "interrupted":
        print(f"{result['error']}\n  to go on: {again}", file=sys.stderr)
    else:
        if "incomplete" in result:
            print(f"warning: no summary: {result['incomplete']}\n  to make up for it: {again}", file=sys.stderr)
        else:
            show(result, run_dir)
        for each in result["missing"]:
            print(
                f"warning: no {each['what']}: {each['why']}\n  to make up for it: {each['command']}",
                file=sys.stderr,
            )


def show(result: dict, run_dir: Path) -> None:
    """Print the headline of a completed run: the evaluation table and where everything lies."""
    console = Console(highlight=False, markup=False)
    found = result["evaluation"]
    if found["trained"]:
        table = Table("reserved combinations", "trained", "untrained", "chance", box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for key in EVALUATION_KEYS[:-1]:
            table.add_row(
                key.replace("_", " "),
                *(_percent(found[who], key) for who in ("trained", "untrained", "chance")),
            )
        console.print(table)
    if found["tasks"]:
        console.print(_tasks_table(found["tasks"]))
    if found["no_scores"]:
        console.print(found["no_scores"], soft_wrap=True)
    first, waiting = result["seconds_to_first_step"], result["waiting"]
    console.print(
        f"{result['steps']} steps, {result['seconds']:.0f} s from start to end; "
        f"the first step after {'-' if first is None else f'{first:.1f} s'}; mean reuse {result['mean_reuse']:.1f}"
    )
    console.print("images: " + ", ".join(f"{name} {count}" for name, count in result["images"].items()))
    fill, after = result["trainer_wait"]["first_batch_s"], result["trainer_wait"]["share_after_first_batch"]
    producers = [f"{name} {_share(share)}" for name, share in waiting["producer_limiter_share"].items()]
    trainer = f"trainer {'-' if fill is None else f'{fill:.1f} s'} for the first batch, then {_share(after)}"
    console.print("waited: " + ", ".join([trainer, *producers]))
    if result["restarts"]:
        again = Counter(restart["process"] for restart in result["restarts"])
        console.print("started again: " + ", ".join(f"{name} {count}" for name, count in again.items()))
    for degraded in result["degraded"]:
        console.print(f"from step {degraded['step']} on {degraded['text']}", soft_wrap=True)
    if recorder := result["recorder"]:
        console.print(
            f"recorder: {recorder.get('captions', 0)} captions, {recorder.get('pictures', 0)} pictures in "
            f"{recorder.get('folder')}; {recorder['missing']} captions are missing",
            soft_wrap=True,
        )
    console.print(f"run folder: {run_dir}", soft_wrap=True)


def _tasks_table(tasks: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    """Of every task its first score, which is its headline."""
    table = Table("task", "score", "trained", "untrained", "chance", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for task, scores in tasks.items():
        for name, shares in [*scores.items()][:1]:
            cells = (_share(shares[who]) for who in ("trained", "untrained", "chance"))
            table.add_row(task, name.replace("_", " "), *cells)
    return table


def _percent(metrics: dict | None, key: str) -> str:
    return _share(metrics.get(key) if metrics else None)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
