"""Files: written whole or not at all, and flushed to disk where another process relies on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from polygen_stream.base.errors import UserError

# Prefix of files and folders that are being written, or removed. No reader looks for such names; what a killed process
# leaves of them in a run folder is removed when the run ends. (guardian.py, which imports nothing, has a copy.)
PARTIAL = ".partial-"


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and rename it to `path` at the end of the block.

    Readers see the old file or the new one. After an exception in the block `path` is what it was.

    Args:
        path: The file to write or replace, in a folder that exists.
        durable: Return when the new file would survive a power failure.

    Raises:
        OSError: The file cannot be written.
    """
    # Two processes may write the same file at the same time: each writes its own, and the last one stays.
    partial = path.with_name(f"{PARTIAL}{path.name}.{os.getpid()}")
    _remove_abandoned(path)
    try:
        with partial.open("wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        flush(path.parent)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of this file left beside it."""
    start = f"{PARTIAL}{path.name}."
    for entry in path.parent.iterdir():
        pid = entry.name.removeprefix(start)
        if entry.name.startswith(start) and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            entry.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write or replace a file in one piece; text as UTF-8. See `replacing`."""
    with replacing(path, durable=durable) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def check_writable(file: Path, *, makes_folder: bool = False) -> None:
    """Find out whether a file can be written, by writing beside it.

    Args:
        file: The file.
        makes_folder: Its folder is made when there is something to put in it.

    Raises:
        UserError: It cannot.
    """
    if file.is_dir():
        raise UserError(f"cannot write {file}: it is a folder; name a file")
    if file.exists() and not file.is_file():  # a pipe or a device, such as /dev/stdout
        return
    folder = file.resolve().parent
    if not folder.is_dir():
        if not makes_folder:
            raise UserError(f"cannot write {file}: there is no folder {folder}")
        folder = folder.parent
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise UserError(f"cannot write {file}: {problem.strerror} ({folder})") from None


def flush(path: Path) -> None:
    """Return when a file's content, or a folder's list of entries, would survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def nearest_existing(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists: the disk that `path` would be on."""
    return next(each for each in (path, *path.parents) if each.exists())


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so is what Git LFS leaves in place of a file that it has not fetched."""
    return head.startswith(b"version https://git-lfs.github.com/spec/")
