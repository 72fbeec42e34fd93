"""The files of rings in a folder, and which of them no run needs: what `polygen-stream clean` lists and removes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch.ring_file import lock, recorded_file
from polygen_stream.launch.watch.status_query import how_it_ended
from polygen_stream.ring.pixel_file import SUFFIX, read_header

IN_USE, INTERRUPTED, COMPLETED = "in use", "interrupted", "completed"
NO_RUN = "no run"  # its run folder has another file, or none
GONE = "run folder not found"  # moved, removed, or on a disk that is not mounted
UNREADABLE = "cannot be read"
REMOVABLE = {COMPLETED, NO_RUN}
MAY_BE_NEEDED = {INTERRUPTED, GONE}


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
        """Remove the file unless a run has begun to use it. Return whether it is gone.

        Raises:
            UserError: it cannot be removed.
        """
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not lock(descriptor):
                    return False
                self.file.unlink()
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return True
        except OSError as problem:
            raise UserError(f"cannot remove {self.file}: {problem.strerror}") from None
        return True


def find_files(folder: Path) -> list[FoundFile]:
    """Return the files of rings in a folder, by name.

    Raises:
        UserError: there is no such folder.
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
        except FileNotFoundError:
            continue
        except OSError:
            found.append(FoundFile(file, file.stat().st_size, "", UNREADABLE))
    return found


def _state(file: Path, run: str) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not lock(descriptor, shared=True):
            return IN_USE
    finally:
        os.close(descriptor)
    folder = RunFolder(Path(run))
    if run and not folder.config.is_file():
        return GONE
    try:
        recorded = recorded_file(folder.path) if run else None
        if recorded is None or not recorded.exists() or not recorded.samefile(file):
            return NO_RUN
        return COMPLETED if how_it_ended(folder) == "completed" else INTERRUPTED
    except UserError:  # a damaged file says nothing of how the run ended: keep what it may need
        return INTERRUPTED
