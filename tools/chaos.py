"""Kill processes of a run at random (kill -9), and check that it completes as if nothing had happened.

    python tools/chaos.py runs/chaos --train.steps 200 --captions.target 700 --every 8 --trainer-kills 3

A captioner or renderer is killed every few seconds, the trainer a few times. Options that this script does not have are
passed to `polygen-stream run`. After the run, its files, its processes and the shared memory are checked. Prints a
summary as Markdown; the exit code is 1 if a check fails.
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
from typing import Any

import psutil

from polygen_stream.base.errors import UserError
from polygen_stream.base.jsonl import read_jsonl
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import read_journal
from polygen_stream.checkpoints import check, list_checkpoints, read_meta
from polygen_stream.config import load_config
from polygen_stream.ring.records import GroupState
from polygen_stream.ring.snapshot_file import SnapshotFile

PRODUCERS = ("captioner", "renderer")


@dataclass
class Chaos:
    """A run and the processes that were killed in it.

    Attributes:
        run_dir: the run folder.
        run: the supervisor.
        steps: training steps of the run.
        kills: (seconds since the start, process name) of each kill.
        seen: all processes of the run so far, by process id.
    """

    run_dir: Path
    run: subprocess.Popen[bytes]
    steps: int
    kills: list[tuple[float, str]] = field(default_factory=list)
    seen: dict[int, psutil.Process] = field(default_factory=dict)

    def processes(self) -> dict[str, psutil.Process]:
        """Return the running processes of the run by name."""
        found: dict[str, psutil.Process] = {}
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
        """Return the number of logged training steps."""
        metrics = RunFolder(self.run_dir).metrics
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def kill(self, started: float, name: str) -> None:
        """Kill a process, if it is running, and record the seconds since `started`."""
        process = self.processes().get(name)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            self.kills.append((time.monotonic() - started, name))


def kill_until_end(chaos: Chaos, seed: int, every_s: float, trainer_kills: int) -> float:
    """Kill processes until the run ends.

    Args:
        chaos: the run.
        seed: of the times and choices.
        every_s: mean seconds between two kills of producers.
        trainer_kills: number of kills of the trainer.

    Returns:
        Seconds until the run ended.
    """
    chance, started = random.Random(seed), time.monotonic()
    # The trainer is killed once in each part of the run, so that it makes progress in between.
    parts = [chaos.steps * part // (trainer_kills + 1) for part in range(1, trainer_kills + 1)]
    moments = [part + chance.randint(0, max(1, chaos.steps // (2 * (trainer_kills + 1)))) for part in parts]
    next_kill = started + chance.uniform(0, 2 * every_s)
    while chaos.run.poll() is None:
        if chaos.step() >= chaos.steps - 1:  # the supervisor is about to stop the producers
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


def failed_checks(chaos: Chaos, before: set[str]) -> list[str]:
    """Check the files of the run, its processes and the shared memory, after it has ended.

    Args:
        chaos: the run.
        before: the names in /dev/shm before the run.

    Returns:
        One message per failed check.
    """
    run = RunFolder(chaos.run_dir)
    failed: list[str] = []

    def expect(holds: bool, message: str) -> None:
        if not holds:
            failed.append(message)

    summary = json.loads(run.summary.read_text())
    expect(chaos.run.returncode == 0, f"exit code {chaos.run.returncode}")
    expect(summary["status"] == "completed", f"status {summary['status']}: {summary['error']}")
    for file in (run.metrics, run.draw_log):
        steps = [line["step"] for line in read_jsonl(file)]
        expect(
            steps == list(range(chaos.steps)), f"{file.name} does not have each of {chaos.steps} steps once, in order"
        )
    step, folder = list_checkpoints(run.path)[-1]
    expect(
        step == chaos.steps and read_meta(folder)["final"], f"the last checkpoint, {folder.name}, is not the final one"
    )
    try:
        check(folder, load_config(run.config))
    except UserError as problem:
        expect(False, f"{folder.name}: {problem}")
    journal = list(read_journal(run.journal))
    tasks = [entry.task.task_id for entry in journal]
    expect(tasks == list(range(len(tasks))), "a task is missing in the journal, or is there twice")
    captions = sum(isinstance(entry.outcome, Caption) for entry in journal)
    expect(summary["captions"] == captions, f"{summary['captions']} groups were opened for {captions} captions")
    columns = SnapshotFile(run.ring_snapshot).state.columns
    complete = columns.group_task[columns.group_state == GroupState.COMPLETE].tolist()
    expect(len(set(complete)) == len(complete), "a task is twice in the ring")
    killed, restarts = _killed_and_restarted(chaos, summary)
    expect(killed <= restarts, f"killed {dict(killed)}, but the summary lists the restarts {dict(restarts)}")
    alive = [p for p in chaos.seen.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    expect(not alive, f"processes are still running: {alive}")
    expect(set(os.listdir("/dev/shm")) <= before, "shared memory was not freed")
    expect(not list(run.path.rglob(".partial-*")), "incomplete files are left in the run folder")
    return failed


def _killed_and_restarted(chaos: Chaos, summary: dict[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """Return the number of kills and the number of restarts in the summary, by process."""
    killed = Counter("trainer" if name.startswith("trainer") else name for _, name in chaos.kills)
    return killed, Counter(restart["process"] for restart in summary["restarts"])


def report(chaos: Chaos, seconds: float, failed: list[str]) -> str:
    """Return the result as Markdown."""
    summary = json.loads(RunFolder(chaos.run_dir).summary.read_text())
    killed, restarts = _killed_and_restarted(chaos, summary)
    lines = [
        f"{len(chaos.kills)} kills in {seconds:.0f} s; {summary['steps']} of {chaos.steps} steps, "
        f"{summary['captions']} captions, {summary['images_total']} images; status {summary['status']}",
        "",
        "| process | killed | restarts in the summary |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {killed[name]} | {restarts[name]} |" for name in sorted(killed | restarts)),
        "",
        "Failed checks: " + ("; ".join(failed) or "none"),
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="a new folder for the run")
    parser.add_argument("--every", type=float, default=8.0, help="mean seconds between two kills of producers")
    parser.add_argument("--trainer-kills", type=int, default=3, help="number of kills of the trainer")
    parser.add_argument("--chaos-seed", type=int, default=0, help="seed of the times and choices of kills")
    arguments, overrides = parser.parse_known_args()
    command = [sys.executable, "-m", "polygen_stream", "run", "--run-dir", str(arguments.run_dir)]
    before = set(os.listdir("/dev/shm"))
    # A process that is killed again while it starts makes no progress. The run must not end because of that.
    overrides = ["--launch.restarts", "1000", *overrides]
    run = subprocess.Popen([*command, *overrides], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        chaos = Chaos(arguments.run_dir, run, load_config(None, overrides).train.steps)
        seconds = kill_until_end(chaos, arguments.chaos_seed, arguments.every, arguments.trainer_kills)
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait()
    failed = failed_checks(chaos, before)
    print(report(chaos, seconds, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
