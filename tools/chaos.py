"""A run under random kill -9, producers every few seconds, the trainer a few times: it ends as if nothing happened.

    python tools/chaos.py runs/chaos --train.steps 200 --captions.target 700 --every 8 --trainer-kills 3

What is not an option of this script goes to `polygen-stream run`. Afterwards everything a run promises is compared with
what it left behind; the summary goes to stdout as Markdown, and the exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal
from polygen_stream.checkpoints import check, list_checkpoints, read_meta
from polygen_stream.config import load_config
from polygen_stream.ring.records import GroupState
from polygen_stream.ring.snapshot_file import SnapshotFile

PRODUCERS = ("captioner", "renderer")


@dataclass
class Chaos:
    """A run, and who was killed in it."""

    run_dir: Path
    run: subprocess.Popen
    steps: int
    kills: list[tuple[float, str]] = field(default_factory=list)  # seconds since the start, name
    seen: dict[int, psutil.Process] = field(default_factory=dict)

    def processes(self) -> dict[str, psutil.Process]:
        """Living processes of the run by name."""
        found = {}
        try:
            children = psutil.Process(self.run.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return found
        for process in children:
            self.seen[process.pid] = process
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "--name" in words:
                found[words[words.index("--name") + 1]] = process
        return found

    def step(self) -> int:
        """Return the number of steps that the trainer has recorded."""
        metrics = self.run_dir / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def kill(self, started: float, name: str) -> None:
        """Kill a process of the run with SIGKILL and note it, if it is alive.

        Args:
            started: Time of the run's start, of `time.monotonic`, in seconds.
            name: Name of the process.
        """
        process = self.processes().get(name)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            self.kills.append((time.monotonic() - started, name))


def wreak(chaos: Chaos, seed: int, every_s: float, trainer_kills: int) -> float:
    """Kills until the run ends; the seconds that took."""
    chance, started = random.Random(seed), time.monotonic()
    # one kill of the trainer in each part of the run, so that there is progress in between
    parts = [chaos.steps * part // (trainer_kills + 1) for part in range(1, trainer_kills + 1)]
    moments = [part + chance.randint(0, max(1, chaos.steps // (2 * (trainer_kills + 1)))) for part in parts]
    next_kill = started + chance.uniform(0, 2 * every_s)
    while chaos.run.poll() is None:
        if chaos.step() >= chaos.steps - 1:  # the supervisor is about to end the producers itself
            time.sleep(0.5)
            continue
        names = sorted(chaos.processes())
        producers = [name for name in names if name.startswith(PRODUCERS)]
        if producers and time.monotonic() >= next_kill:
            chaos.kill(started, chance.choice(producers))
            next_kill = time.monotonic() + chance.uniform(0, 2 * every_s)
        trainers = [name for name in names if name.startswith("trainer")]
        if moments and trainers and chaos.step() >= moments[0]:
            moments.pop(0)
            chaos.kill(started, chance.choice(trainers))
        time.sleep(0.05)
    return time.monotonic() - started


def broken_promises(chaos: Chaos, before: set[str]) -> list[str]:
    """What the run left behind that it should not have, and the other way round."""
    run_dir, broken = chaos.run_dir, []

    def promise(kept: bool, what: str) -> None:
        if not kept:
            broken.append(what)

    summary = json.loads((run_dir / "summary.json").read_text())
    promise(chaos.run.returncode == 0, f"exit code {chaos.run.returncode}")
    promise(summary["status"] == "completed", f"status {summary['status']}: {summary['error']}")
    for name in ("metrics.jsonl", "draw_log.jsonl"):
        steps = [line["step"] for line in read_jsonl(run_dir / name)]
        promise(steps == list(range(chaos.steps)), f"{name} has not each of {chaos.steps} steps once, in order")
    step, folder = list_checkpoints(run_dir)[-1]
    promise(
        step == chaos.steps and read_meta(folder)["final"], f"the last checkpoint is {folder.name}, not the final one"
    )
    try:
        check(folder, load_config(run_dir / "config.toml"))
    except UserError as problem:
        promise(False, f"{folder.name}: {problem}")
    journal = list(read_journal(run_dir / "journal.jsonl"))
    tasks = [entry.task.task_id for entry in journal]
    promise(tasks == list(range(len(tasks))), "the journal has a gap or a double")
    captions = sum(isinstance(entry.outcome, Caption) for entry in journal)
    promise(summary["captions"] == captions, f"{summary['captions']} groups were opened for {captions} captions")
    columns = SnapshotFile(run_dir / "ring.safetensors").state.columns
    inside = columns.group_task[columns.group_state == GroupState.COMPLETE].tolist()
    promise(len(set(inside)) == len(inside), "a task is twice in the ring")
    again = Counter(restart["process"] for restart in summary["restarts"])
    killed = Counter("trainer" if name.startswith("trainer") else name for _, name in chaos.kills)
    promise(killed <= again, f"killed {dict(killed)}, but the summary lists restarts {dict(again)}")
    alive = [p for p in chaos.seen.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    promise(not alive, f"processes are left: {alive}")
    promise(set(os.listdir("/dev/shm")) <= before, "something is left in /dev/shm")
    promise(not [p for p in run_dir.rglob(".partial-*")], "half-written files are left")
    return broken


def report(chaos: Chaos, seconds: float, broken: list[str]) -> str:
    """Return the kills, the restarts and the broken promises as Markdown.

    Args:
        chaos: A run that has ended.
        seconds: How long it took.
        broken: As `broken_promises` returns them.
    """
    summary = json.loads((chaos.run_dir / "summary.json").read_text())
    again = Counter(restart["process"] for restart in summary["restarts"])
    killed = Counter("trainer" if name.startswith("trainer") else name for _, name in chaos.kills)
    lines = [
        f"{len(chaos.kills)} kills in {seconds:.0f} s; {summary['steps']} of {chaos.steps} steps, "
        f"{summary['captions']} captions, {summary['images_total']} pictures; status {summary['status']}",
        "",
        "| process | killed | restarts in the summary |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {killed[name]} | {again[name]} |" for name in sorted(killed | again)),
        "",
        "Broken promises: " + ("; ".join(broken) or "none"),
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the command line's run under kills and print the report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--every", type=float, default=8.0, help="mean seconds between two kills of producers")
    parser.add_argument("--trainer-kills", type=int, default=3)
    parser.add_argument("--chaos-seed", type=int, default=0)
    arguments, words = parser.parse_known_args()
    command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir", str(arguments.run_dir)]
    before = set(os.listdir("/dev/shm"))
    # A process that is killed again while it starts makes no progress, which is not what is tried here.
    words = ["--launch.max_restarts", "1000", *words]
    run = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        chaos = Chaos(arguments.run_dir, run, load_config(None, words).train.steps)
        seconds = wreak(chaos, arguments.chaos_seed, arguments.every, arguments.trainer_kills)
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait()
    broken = broken_promises(chaos, before)
    print(report(chaos, seconds, broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
