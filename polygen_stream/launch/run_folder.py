"""The run folder: where a run keeps everything it leaves to its owner."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.checkpoints import RING, list_checkpoints
from polygen_stream.config import RunConfig, dump_config
from polygen_stream.launch import guardian

RUNS = Path("runs")
RING_SNAPSHOT = RING  # what the ring was like at the end; checkpoints have one of their own


def choose(config: RunConfig, run_dir: Path | None) -> Path:
    """The folder of a new run: `run_dir`, which must be empty or absent, or runs/<time>-<name>.

    Raises UserError when the folder holds something or cannot be made.
    """
    chosen = run_dir or RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{config.name}"
    chosen = chosen.absolute()
    if chosen.exists() and not chosen.is_dir():
        raise UserError(f"run folder {chosen} is a file: choose another --run-dir")
    if chosen.is_dir() and any(chosen.iterdir()):
        raise UserError(f"run folder {chosen} is not empty: choose another --run-dir, or move the old run away")
    return chosen


def create(config: RunConfig, run_dir: Path) -> None:
    """Makes `run_dir` with the resolved config and the provenance."""
    try:
        (run_dir / "logs").mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make run folder {run_dir}: {error.strerror}; choose another --run-dir") from error
    dump_config(config, run_dir / "config.toml")
    write_json(run_dir / "provenance.json", provenance())


def lock(run_dir: Path) -> int:
    """Makes this process the only supervisor of a run folder, until it closes the descriptor or dies in any way.

    Raises:
        UserError: another one is at work in it.
    """
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"the run in {run_dir} is still going on: stop it first, or choose another folder") from None
    return descriptor


def take_up(run_dir: Path, step: int) -> None:
    """Adds to the provenance of a run that it goes on from `step`, in what and by what."""
    file = run_dir / "provenance.json"
    before = json.loads(file.read_text(encoding="utf-8"))
    again = {"step": step} | provenance()
    write_json(file, before | {"resumed": [*before.get("resumed", []), again]})


def provenance() -> dict:
    """What ran: code, package versions, machine, command line, time."""
    packages = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "argv": sys.argv,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git": _git(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def write_json(path: Path, content: Mapping) -> None:
    """Writes atomically: readers see the old file or the new one."""
    temporary = path.with_name(f"{guardian.PARTIAL}{path.name}")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def last_checkpoint(run_dir: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest checkpoint."""
    return max(list_checkpoints(run_dir), default=None)


def recorded_so_far(run_dir: Path) -> dict:
    """What the recorder noted last: folder, captions, pictures, shards; {} before it began, or without one."""
    try:
        return json.loads((run_dir / "recorder.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _git() -> dict[str, str | bool] | None:
    """Commit of the checkout this package runs from, and whether it was changed; None when installed."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        commit = _run_git(checkout, "rev-parse", "HEAD")
        changed = _run_git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or no commit yet
        return None
    return {"commit": commit, "changed": bool(changed)}


def _run_git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
