"""The run folder before a run: chosen and created, or resumed, and locked for one supervisor."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import flush, nearest_existing
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import RunConfig, dump_config, settings
from polygen_stream.launch.provenance import provenance

RUNS = Path("runs")


def choose_run_folder(config: RunConfig, run_dir: Path | None) -> Path:
    """Return the folder of a new run: `run_dir`, which must be empty or absent, or runs/<time>-<name>.

    A time may come twice, e.g. when the clock is set back: then runs/<time>-<name>-2 and so on.

    Raises:
        UserError: the folder is not empty, is a file, or cannot be made.
    """
    chosen = (run_dir or _of_this_time(config.name)).absolute()
    if chosen.exists() and not chosen.is_dir():
        raise UserError(f"run folder {chosen} is a file: choose another --run-dir")
    if chosen.is_dir() and any(chosen.iterdir()):
        raise UserError(f"run folder {chosen} is not empty: choose another --run-dir, or move the old run away")
    above = nearest_existing(chosen)
    problem = None if above.is_dir() else errno.ENOTDIR
    if problem is None and not os.access(above, os.W_OK | os.X_OK):
        problem = errno.EACCES
    if problem is not None:
        raise _cannot_make(chosen, os.strerror(problem))
    return chosen


def _of_this_time(name: str) -> Path:
    first = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    each = (first.with_name(f"{first.name}{suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(folder for folder in each if not folder.exists())


def _cannot_make(run_dir: Path, why: str | None) -> UserError:
    return UserError(f"cannot make run folder {run_dir}: {why}; choose another --run-dir")


def create_run_folder(config: RunConfig, run_dir: Path, own_parts: Mapping[str, Any] | None = None) -> None:
    """Create `run_dir` with the resolved config and the provenance, `own_parts` (own_parts.py) included.

    Raises:
        UserError: the folder cannot be created.
    """
    run = RunFolder(run_dir)
    try:
        run.logs.mkdir(parents=True)
    except OSError as error:
        raise _cannot_make(run_dir, error.strerror) from error
    dump_config(config, run.config)
    attempt = provenance() | {"settings": settings(config), "own_parts": own_parts or {}}
    write_json(run.provenance, attempt)
    flush(run_dir.parent)


def lock_run_folder(run_dir: Path) -> int:
    """Make this process the only supervisor of a run folder, until it closes the returned descriptor or dies.

    Raises:
        UserError: another supervisor has the folder.
    """
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"the run in {run_dir} is still going on: stop it first, or choose another folder") from None
    return descriptor


def record_resume(config: RunConfig, run_dir: Path, step: int, own_parts: Mapping[str, Any]) -> None:
    """Add to the provenance of a run that it is resumed at `step`, by this process, with this config and own parts."""
    file = RunFolder(run_dir).provenance
    before = read_json(file)
    again = {"step": step} | provenance() | {"settings": settings(config), "own_parts": own_parts}
    write_json(file, before | {"resumed": [*before.get("resumed", []), again]})


def last_settings(run_dir: Path) -> dict[str, Any] | None:
    """Return the settings with which a run was started or last resumed; None of a release that did not record them."""
    found = read_json(RunFolder(run_dir).provenance)
    return [found, *found.get("resumed", [])][-1].get("settings")
