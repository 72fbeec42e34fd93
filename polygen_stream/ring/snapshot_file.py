"""Reading a snapshot file: nothing of it is used before format, version, spec, columns and checksum are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from polygen_stream.base.errors import Damaged, UserError
from polygen_stream.ring.errors import RingMismatch
from polygen_stream.ring.layout import VERSION, Column, RingColumns
from polygen_stream.ring.snapshot import FORMAT, columns_checksum
from polygen_stream.ring.spec import RingSpec
from polygen_stream.ring.spec_checks import check_spec
from polygen_stream.ring.state import RingState, copied_columns

_CHUNK = 256  # pictures read at once


class SnapshotFile:
    """An opened snapshot. `state` are its columns, `picture_slot` (int64 [n]) the slots whose pictures it holds.

    Raises Damaged for a file that is missing, truncated, damaged or no snapshot at all, RingMismatch for one of
    another version.
    """

    def __init__(self, path: Path, label: str | None = None) -> None:
        """label: how errors call the file, if not by its path."""
        self._label = label or f"ring snapshot {path}"
        try:
            self._file = safe_open(path, framework="numpy")
        except FileNotFoundError as error:
            raise Damaged(f"{self._label} does not exist; {_REMEDY}") from error
        except OSError as error:
            raise UserError(f"{self._label} cannot be read: {error}") from error
        except SafetensorError as error:
            raise Damaged(f"{self._label} is truncated or no safetensors file ({error}); {_REMEDY}") from error
        metadata = self._file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise Damaged(f"{self._label} is a safetensors file but no ring snapshot; {_REMEDY}")
        if metadata.get("version") != str(VERSION):
            raise RingMismatch(
                f"{self._label} has version {metadata.get('version')}, this polygen-stream reads version {VERSION}; "
                "use the release that wrote it"
            )
        try:
            self.spec = RingSpec.from_json(metadata["spec"])
            check_spec(self.spec)
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"{self._label} has a ring spec that cannot be read ({error}); {_REMEDY}") from error
        self.state = RingState(
            self.spec,
            RingColumns({column.name: self._column(column) for column in copied_columns(self.spec)}),
            int(metadata["monotonic_ns"]),
            int(metadata["pid_namespace"]),
        )
        if columns_checksum(self.state) != int(metadata["columns_checksum"]):
            raise Damaged(f"{self._label} is damaged: its columns have another checksum than was stored; {_REMEDY}")
        self._picture_slot = self._file.get_tensor("picture_slot")

    @property
    def picture_slot(self) -> np.ndarray:
        """Slots of the stored pictures, int64 [n]."""
        return self._picture_slot[self._picture_slot >= 0]

    def pictures(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (slots [n], pictures uint8 [n, H, W, 3]) of all stored pictures, some at a time."""
        tensor = self._file.get_slice("pictures")
        for start in range(0, self._picture_slot.size, _CHUNK):
            slots = self._picture_slot[start : start + _CHUNK]
            kept = slots >= 0
            yield slots[kept], tensor[start : start + slots.size][kept]

    def read(self, slots: Sequence[int]) -> dict[int, np.ndarray]:
        """Return the stored pictures among those of `slots`, by slot: uint8 [H, W, 3]."""
        tensor = self._file.get_slice("pictures")
        places = {slot: place for place, slot in enumerate(self._picture_slot.tolist())}
        return {slot: tensor[places[slot] : places[slot] + 1][0] for slot in slots if slot in places}

    def _column(self, column: Column) -> np.ndarray:
        expected = (np.dtype(column.dtype), column.shape)
        in_file = column.name in self._file.keys()  # noqa: SIM118 safe_open is no mapping
        array = self._file.get_tensor(column.name) if in_file else None
        found = None if array is None else (array.dtype, array.shape)
        if array is None or found != expected:
            raise Damaged(f"{self._label}: column {column.name} is {found}, its spec asks for {expected}; {_REMEDY}")
        return array


_REMEDY = "choose a ring.safetensors that a run wrote, e.g. that of an older checkpoint"
