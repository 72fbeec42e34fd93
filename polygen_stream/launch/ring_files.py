"""The files of rings in a folder, and which of them no run needs: what `polygen-stream clean` lists and removes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch.ring_file import SUFFIX, recorded_file
from polygen_stream.ring.pixel_file import lock, read_header

IN_USE, INTERRUPTED, COMPLETED, NO_RUN = "in use", "interrupted", "completed", "no run"
REMOVABLE = {COMPLETED, NO_RUN}


@dataclass(frozen=True)
class FoundFile:
    """A file with the images of a ring.

    Attributes:
        file: where it is.
        bytes: its size.
        run: the run folder that its header names, "" if none.
        state: of that run, one of the constants of this module.
    """

    file: Path
    bytes: int
    run: str
    state: str

    def remove(self) -> bool:
        """Remove the file unless a run has begun to use it. Return whether it is gone."""
        descriptor = os.open(self.file, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not lock(descriptor):
                return False
            self.file.unlink()
            return True
        finally:
            os.close(descriptor)


def find_files(folder: Path) -> list[FoundFile]:
    """Return the files of rings in a folder, by name.

    Raises:
        UserError: there is no such folder, or a file cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give one that ring.storage named")
    found = []
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            header = read_header(file) if file.is_file() else None
            if header is not None:
                run = str(header.get("run", ""))
                found.append(FoundFile(file, file.stat().st_size, run, _state(file, run)))
        except OSError as problem:
            raise UserError(f"cannot read {file}: {problem.strerror}") from None
    return found


def _state(file: Path, run: str) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not lock(descriptor):
            return IN_USE
    finally:
        os.close(descriptor)
    folder = Path(run)
    try:
        recorded = recorded_file(folder) if run and folder.is_dir() else None
        status = read_json(RunFolder(folder).summary).get("status") if recorded else None
    except UserError:  # a damaged file says nothing of how the run ended: keep what it may need
        return INTERRUPTED
    if recorded is None or recorded != file.absolute():
        return NO_RUN
    return COMPLETED if status == "completed" else INTERRUPTED
