"""The inspector's side: the state of a running ring from its supervisor, of a dead one from a snapshot file."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.checkpoints import RING, list_checkpoints
from polygen_stream.launch.watch.control_protocol import ANSWER_LIMIT_S, ask
from polygen_stream.ring import DrawnGroup
from polygen_stream.ring.control import open_pixels
from polygen_stream.ring.inspection import complete_groups
from polygen_stream.ring.layout import RingColumns, RingLayout
from polygen_stream.ring.pixels import read_intact
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.ring.state import RingState


@dataclass(frozen=True)
class Inspected:
    """A ring to look at.

    Attributes:
        title: What it is, for people.
        running: Whether its run is going on.
        state: Its columns.
        groups: Complete groups that may have images, by task id.
        read: slots -> {slot: image, uint8 [H, W, 3]}, without those that are gone.
    """

    title: str
    running: bool
    state: RingState
    groups: Sequence[DrawnGroup]
    read: Callable[[Sequence[int]], dict[int, np.ndarray]]


def open_inspected(path: Path, answer_limit_s: float = ANSWER_LIMIT_S) -> Inspected:
    """Open what `path` names: the ring of a run that is going on, the last snapshot of one that is over, or a file.

    Args:
        path: A run folder or a snapshot file.
        answer_limit_s: How long to wait for the supervisor of a run.

    Raises:
        UserError: There is nothing to look at.
        PolygenError: The supervisor does not answer.
    """
    if not path.is_dir():
        return _from_file(path)
    run = RunFolder.open(path)
    answer = ask(path, {"verb": "inspect"}, answer_limit_s)
    if answer is not None:
        return _from_run(path, *answer.descriptors)
    snapshot = newest_snapshot(path)
    if snapshot is None:
        raise UserError(
            f"the run in {run} is over and left no {run.ring_snapshot.name} (its supervisor was killed); "
            "nothing to inspect"
        )
    return _from_file(snapshot)


def newest_snapshot(run_dir: Path) -> Path | None:
    """Return what a run left of its ring: at its end, or in a checkpoint; None if nothing.

    One at the end is of the last attempt, for a resume removes it. Times of files do not tell: a copy has its own, and
    a clock can be set.
    """
    found = [folder / RING for _, folder in reversed(list_checkpoints(run_dir))]
    return next((file for file in (RunFolder(run_dir).ring_snapshot, *found) if file.is_file()), None)


def _from_file(path: Path) -> Inspected:
    file = SnapshotFile(path)
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
    stored = set(file.picture_slot.tolist())
    title = f"snapshot {path} of {written}"
    if Path(file.spec.storage).is_file():
        pixels = open_pixels(file.spec, file.state.columns, read_only=True)
        read = partial(read_intact, pixels, written=file.state.columns.slot_checksum)
        return Inspected(title, False, file.state, complete_groups(file.state), read)
    groups = [group for group in complete_groups(file.state) if not stored.isdisjoint(group.positive_slots)]
    return Inspected(title, False, file.state, groups, file.read)


def _from_run(run_dir: Path, snapshot: int, ring: int) -> Inspected:
    title = f"running run {run_dir}"
    try:
        file = SnapshotFile(Path(f"/proc/self/fd/{snapshot}"), label=f"the state of the {title}")
        layout = RingLayout.of(file.spec)
        mapping = memoryview(mmap.mmap(ring, layout.total_bytes, prot=mmap.PROT_READ))
        pixels = open_pixels(file.spec, RingColumns.mapped(mapping, layout), read_only=True)
    finally:
        os.close(snapshot)
        os.close(ring)
    read = partial(read_intact, pixels, written=file.state.columns.slot_checksum)
    return Inspected(title, True, file.state, complete_groups(file.state), read)
