"""Taking up an unfinished run: which one, from which of its checkpoints, and with which ring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import overload

from polygen_stream.base.errors import Damaged, UserError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.jsonl import cut_jsonl, read_jsonl_lines
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import (
    RING,
    UNUSABLE,
    last_checkpoint,
    list_checkpoints,
    read_meta,
    write_meta,
)
from polygen_stream.checkpoints import (
    check as check_checkpoint,
)
from polygen_stream.config import Change, RunConfig, allowed_changes
from polygen_stream.launch.events import record_event
from polygen_stream.launch.run_setup import RUNS, last_settings
from polygen_stream.ring import Ring, RingSpec
from polygen_stream.ring.pixel_file import file_bytes
from polygen_stream.ring.restore import restore_snapshot
from polygen_stream.ring.take_over import Progress, ignore

AUTO = "auto"
SLOW_BYTES = 4 * 2**30  # of images in the ring's file: reading them takes seconds


def find_run(which: str, runs: Path = RUNS) -> Path:
    """Return the folder of the unfinished run to go on with: `which`, or with "auto" the newest one under `runs`.

    Raises:
        UserError: There is none.
    """
    if which == AUTO:
        found = [folder for folder in runs.glob("*/") if _is_run(folder) and not _is_finished(folder)]
        if not found:
            raise UserError(f"--resume auto: no unfinished run under {runs.absolute()}; name its folder: --resume RUN")
        run_dir = max(found, key=lambda folder: RunFolder(folder).provenance.stat().st_mtime)
    else:
        run_dir = Path(which)
    if not RunFolder.open(run_dir).provenance.is_file():
        raise UserError(f"--resume {which}: nothing was started in this folder (it has no provenance.json)")
    return run_dir.absolute()


def check_config(run_dir: Path, config: RunConfig) -> list[Change]:
    """Compare the config of a run with what it was started or last resumed with; nothing is written.

    Call it under the lock: the run may have ended a moment ago.

    Returns:
        The keys that changed and count for the steps to come.

    Raises:
        UserError: There is nothing left to do, or a key has changed that decides what is trained.
    """
    file, newest = RunFolder(run_dir).config, last_checkpoint(run_dir)
    if not file.read_bytes().strip():  # it would stand for the defaults
        raise UserError(f"{file} is empty: restore it, for it says what this run is")
    done = newest[0] if newest else 0
    over = _is_finished(run_dir) and not _lacks_something(run_dir)
    if over and (newest is None or config.train.steps <= done):
        raise UserError(
            f"the run in {run_dir} is finished, see its summary.json: start a new one, or raise train.steps in its "
            "config.toml to train longer"
        )
    recorded = last_settings(run_dir)
    changes = allowed_changes(recorded, config, file) if recorded else []
    if config.train.steps < done:
        raise UserError(
            f"{file}: train.steps = {config.train.steps}, but the run has trained {done} steps: at least {done}"
        )
    return changes


def check_logs(run_dir: Path) -> None:
    """Refuse a run whose metrics or scores cannot be read, before anything is changed: `rewind` cuts them.

    Raises:
        UserError: One of the files is there and cannot be read.
    """
    for file in (RunFolder(run_dir).metrics, RunFolder(run_dir).eval_log):
        next(read_jsonl_lines(file), None)


@overload
def last_usable(
    run_dir: Path, config: RunConfig, spec: RingSpec, say: Callable[[str], None], check: Progress = ignore
) -> tuple[int, Ring]: ...


@overload
def last_usable(
    run_dir: Path, config: RunConfig, spec: RingSpec | None, say: Callable[[str], None], check: Progress = ignore
) -> tuple[int, Ring | None]: ...


def last_usable(
    run_dir: Path, config: RunConfig, spec: RingSpec | None, say: Callable[[str], None], check: Progress = ignore
) -> tuple[int, Ring | None]:
    """Return the step of the newest checkpoint that can be used, and its ring if `spec` asks for one.

    `check` is called between the images of a ring's file, with their number and that of all; what it raises ends this.
    Checkpoints that are damaged are put aside, with one line each for the user, so that the trainer will find this one.
    Without any, training begins again at step 0 and with an empty ring.

    Raises:
        UserError: The newest one that is whole is another run's or another release's, was made with other settings, or
            its ring does not fit into memory.
    """
    progress = _telling(spec, say, check)
    folders = [folder for _, folder in reversed(list_checkpoints(run_dir))]
    for folder in folders:
        try:
            check_checkpoint(folder, config)
            ring = None if spec is None else restore_snapshot(folder / RING, spec, progress=progress)
        except Damaged as problem:
            aside = _put_aside(folder)
            say(f"checkpoint {folder} cannot be used ({problem}), it is {aside.name} now; going on from the one before")
            record_event(run_dir, "unusable", checkpoint=folder.name, reason=str(problem))
            continue
        _say_taken_over(ring, say)
        return read_meta(folder)["step"], ring
    if folders:
        say(f"no checkpoint in {run_dir} can be used: training begins again at step 0")
    ring = None if spec is None else Ring.create(spec, progress=progress)
    _say_taken_over(ring, say)
    return 0, ring


def _telling(spec: RingSpec | None, say: Callable[[str], None], check: Progress) -> Progress:
    """Return `check` that also says, for a ring of which it takes a while, that its images are being read."""
    bytes_of = 0 if spec is None else file_bytes(spec) / spec.slots

    def progress(done: int, of: int) -> None:
        check(done, of)
        if done == 0 and spec is not None and of * bytes_of > SLOW_BYTES:
            say(f"reading {of:,} images ({of * bytes_of / 2**30:.0f} GiB) in {spec.storage}")

    return progress


def _say_taken_over(ring: Ring | None, say: Callable[[str], None]) -> None:
    """Say how many images are not rendered again, if the ring has a file."""
    if ring is None or ring.taken_over is None:
        return
    found, lost = ring.taken_over, ""
    if found.damaged:
        lost = f"; {found.damaged:,} that are damaged are rendered again"
    say(f"{found.whole:,} images are in {ring.spec.storage}{lost}")


def rewind(run_dir: Path, step: int, steps: int) -> None:
    """Make a run folder look as it did when the checkpoint of `step` (of `steps`) was written.

    The journal stays, for captions are not written twice, and so do evaluations of checkpoints up to this one. The
    trainer cuts its draw log.

    Raises:
        UserError: The metrics or the scores cannot be read.
    """
    RunFolder(run_dir).ring_snapshot.unlink(missing_ok=True)
    cut_jsonl(RunFolder(run_dir).metrics, step)
    cut_jsonl(RunFolder(run_dir).eval_log, step + 1)
    for number, folder in list_checkpoints(run_dir):
        meta, final = read_meta(folder), number >= steps
        if (
            meta["final"] != final
        ):  # the last one of an interrupted run or a shorter one, but not of this run; or now is
            write_meta(folder, meta | {"final": final})


def _put_aside(folder: Path) -> Path:
    names = (f"{UNUSABLE}{folder.name}{suffix}" for suffix in ("", *(f".{n}" for n in range(2, 1000))))
    aside = next(folder.with_name(name) for name in names if not folder.with_name(name).exists())
    folder.rename(aside)
    return aside


def _is_run(folder: Path) -> bool:
    run = RunFolder(folder)
    return run.config.is_file() and run.provenance.is_file()


def _lacks_something(folder: Path) -> bool:
    """Whether a completed run lacks its last scores, its report or its summary, which a resume makes up for."""
    found = read_json(RunFolder(folder).summary)
    return bool(found.get("missing") or found.get("incomplete"))


def _is_finished(folder: Path) -> bool:
    try:
        return read_json(RunFolder(folder).summary).get("status") == "completed"
    except UserError:  # a damaged summary says nothing of how the run ended
        return False
