"""Saving a ring: every column always, pictures on request, without stopping the run.

A snapshot is one safetensors file: a tensor per column, `pictures` [n, H, W, 3] and `picture_slot` [n] (the slot
of each picture, -1 = overwritten while it was being copied), and in its metadata the spec as JSON, the layout
version and a checksum of the columns.

Only the columns are copied under the mutex. Pictures follow outside of it, in chunks, and after each chunk the
slots' generations are compared with those of the columns: a slot is written only after a claim, and each claim
raises its generation, so an unchanged one proves that the pixels belong to the columns. Leasing all groups until the
copy ends instead would keep a full ring from evicting and so stop the producers for as long as the disk takes. A caller
that needs the pictures of a group has to keep it from eviction meanwhile.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import replacing
from polygen_stream.ring import memory
from polygen_stream.ring.control import Control
from polygen_stream.ring.layout import VERSION
from polygen_stream.ring.records import SlotState
from polygen_stream.ring.ring import Ring
from polygen_stream.ring.state import RingState, copied_columns, copy_state

FORMAT = "polygen-stream ring snapshot"
_CHUNK_BYTES = 4 * 2**20
_DTYPES = {"u1": "U8", "i2": "I16", "i4": "I32", "i8": "I64", "f4": "F32", "f8": "F64"}


@dataclass(frozen=True)
class Saved:
    """What a snapshot holds. pictures: stored; overwritten: asked for, but evicted and rewritten meanwhile."""

    pictures: int
    overwritten: int
    locked_s: float  # longest time the mutex was held: the copy of the columns


def copy_columns(ring: Ring) -> RingState:
    """The ring's columns now, for a snapshot that is written later."""
    return copy_state(ring._control)


def save_snapshot(
    ring: Ring, path: Path, payload: bool, tasks: Collection[int] | None = None, state: RingState | None = None
) -> Saved:
    """Write a snapshot of a ring in use; `path` then has all of it, or what it had before.

    payload: store the READY pictures too; `tasks` limits them to the groups of these task ids.
    state: the instant to save, if it is not this one. Pictures that were overwritten since are not stored.
    Raises UserError when the file cannot be written.
    """
    try:
        with replacing(path, durable=True) as file:
            saved = _write(file, ring._control, payload, tasks, state or copy_columns(ring))
    except OSError as error:
        raise UserError(
            f"cannot write ring snapshot {path}: {error.strerror}; free some space there or choose another folder"
        ) from error
    return saved


def snapshot_in_memory(ring: Ring) -> int:
    """A snapshot without pictures in an anonymous memory file; its descriptor, for the caller to close.

    Raises UserError when there is too little memory: looking at a run must not end it.
    """
    columns = copied_columns(ring.spec)
    needed = 2 * sum(int(np.prod(column.shape)) * np.dtype(column.dtype).itemsize for column in columns)
    available, source = memory.available_bytes()
    if needed > available:
        raise UserError(
            f"a copy of the ring's columns needs {needed / 2**20:.0f} MiB but only {available / 2**20:.0f} MiB are "
            f"available ({source}); ask again when there is more"
        )
    fd = os.memfd_create("polygen-ring-snapshot", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            _write(file, ring._control, payload=False, tasks=None, state=copy_columns(ring))
    except BaseException:
        os.close(fd)
        raise
    return fd


def columns_checksum(state: RingState) -> int:
    """Return the CRC-32 over all copied columns."""
    checksum = 0
    for column in copied_columns(state.spec):
        checksum = zlib.crc32(getattr(state.columns, column.name), checksum)
    return checksum


def _write(file: BinaryIO, control: Control, payload: bool, tasks: Collection[int] | None, state: RingState) -> Saved:
    # By hand, not with safetensors' own writer: that one wants all pictures in memory at once, beside the ring.
    slots = _slots_to_store(state, tasks) if payload else np.empty(0, np.int64)
    # the widest first, so that every tensor is aligned
    columns = sorted(copied_columns(state.spec), key=lambda column: -np.dtype(column.dtype).itemsize)
    tensors = [("picture_slot", "i8", slots.shape)]
    tensors += [(column.name, column.dtype, column.shape) for column in columns]
    tensors += [("pictures", "u1", (slots.size, *state.spec.image_shape))]
    file.write(_header(state, tensors))
    picture_slot_at = file.tell()
    file.write(slots.data)
    for column in columns:
        file.write(getattr(state.columns, column.name).data)
    stored = _write_pictures(file, control, state, slots)
    file.seek(picture_slot_at)
    file.write(stored.data)
    pictures = int(np.count_nonzero(stored >= 0))
    return Saved(pictures, slots.size - pictures, state.locked_s)


def _slots_to_store(state: RingState, tasks: Collection[int] | None) -> np.ndarray:
    c = state.columns
    slots = np.flatnonzero(c.slot_state == SlotState.READY)
    if tasks is None:
        return slots
    return slots[np.isin(c.group_task[c.slot_group[slots]], np.fromiter(tasks, np.int64, len(tasks)))]


def _write_pictures(file: BinaryIO, control: Control, state: RingState, slots: np.ndarray) -> np.ndarray:
    """Appends the pixels of `slots`; returns `slots` with -1 for those that were overwritten before their turn."""
    stored = slots.copy()
    step = max(1, _CHUNK_BYTES // int(np.prod(state.spec.image_shape)))
    for start in range(0, slots.size, step):
        chunk = slots[start : start + step]
        pixels = control.pixels.read(chunk)
        with control.reading():
            intact = control.columns.slot_generation[chunk] == state.columns.slot_generation[chunk]
        stored[start : start + step][~intact] = -1
        file.write(pixels.data)
    return stored


def _header(state: RingState, tensors: list[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """The start of a safetensors file: length of the JSON that follows, and the JSON, padded to 8 bytes."""
    described: dict[str, object] = {
        "__metadata__": {
            "format": FORMAT,
            "version": str(VERSION),
            "spec": state.spec.to_json(),
            "monotonic_ns": str(state.monotonic_ns),
            "pid_namespace": str(state.pid_namespace),
            "columns_checksum": str(columns_checksum(state)),
        }
    }
    start = 0
    for name, dtype, shape in tensors:
        stop = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        described[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
