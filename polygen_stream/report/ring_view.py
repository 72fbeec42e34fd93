"""A view of a ring in use that blocks no process: its numbers, its captions and their images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from polygen_stream.ring import DrawnGroup, Ring
from polygen_stream.ring.inspection import Inspection, complete_groups, inspect_state
from polygen_stream.ring.snapshot import snapshot_in_memory
from polygen_stream.ring.snapshot_file import SnapshotFile


@dataclass(frozen=True)
class RingView:
    """The state of a ring at one moment.

    Attributes:
        inspection: its numbers.
        groups: its complete groups.
        read: slots -> {slot: image uint8 [h, w, 3]}; slots that were overwritten since are left out.
    """

    inspection: Inspection
    groups: list[DrawnGroup]
    read: Callable[[Sequence[int]], dict[int, np.ndarray]]


def view_ring(ring: Ring) -> RingView:
    """Copy the columns of a ring, without its images."""
    descriptor = snapshot_in_memory(ring)
    try:
        state = SnapshotFile(Path(f"/proc/self/fd/{descriptor}"), label="the state of the ring").state
    finally:
        os.close(descriptor)
    read = partial(ring.read_intact, written=state.columns.slot_checksum)
    return RingView(inspect_state(state, running=True), complete_groups(state), read)
