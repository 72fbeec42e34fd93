"""The file of a run's ring, if ring.storage names a folder for it: where it is, whether it can be there, its end.

It outlives an interrupted run, whose folder has its path, and goes when the run is completed. The supervisor and every
process that it starts hold one lock on it, so that no later attempt uses it while one of them is still there.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import MEMORY, RunConfig
from polygen_stream.ring.memory import available_bytes
from polygen_stream.ring.pixel_file import SUFFIX, file_bytes, write_owner
from polygen_stream.ring.spec import RingSpec

GIB = 2**30
LOCK_LIMIT_S = 15.0  # for processes of the attempt before, which may be dying
# On these a lock may not hold, and every picture crosses the network twice.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "afs", "9p", "fuse.sshfs"}
IN_MEMORY = {"tmpfs", "ramfs"}


def recorded_file(run_dir: Path) -> Path | None:
    """Return the file that a run put its ring's images in, which need not be there any more; None without one."""
    file = read_json(RunFolder(run_dir).ring_file).get("file")
    return Path(file) if isinstance(file, str) else None


def choose_file(config: RunConfig, run_dir: Path) -> Path | None:
    """Return the file of a run's ring; None for a ring in memory.

    That of an earlier attempt, if it is in the folder that the config names now; else one that is not there yet.
    """
    if config.ring.storage == MEMORY:
        return None
    folder = Path(config.ring.storage)
    earlier = recorded_file(run_dir)
    if earlier is not None and earlier.parent.resolve() == folder.resolve():
        return earlier
    return folder.resolve() / f"{run_dir.name[:80]}-{secrets.token_hex(4)}{SUFFIX}"


def check_file(spec: RingSpec, file: Path) -> None:
    """Refuse a file of a ring that cannot be made there. One that is there already has its room.

    Raises:
        UserError: the folder is a file or on a network file system, or has too little space.
    """
    there = nearest_existing(file.parent)
    if not there.is_dir():
        raise UserError(f"ring.storage = {str(file.parent)!r}: {there} is no folder; name one on a local disk")
    kind = file_system(there)
    if kind in NETWORK:
        raise UserError(
            f"ring.storage = {str(file.parent)!r} is on a network file system ({kind}): name a folder on a local disk"
        )
    if file.exists():
        return
    free, needed = shutil.disk_usage(there).free, file_bytes(spec)
    where = str(there)
    if kind in IN_MEMORY:
        free, where = min(free, available_bytes()[0]), f"{there}, which is in memory ({kind}),"
    if free < needed:
        raise UserError(
            f"the ring's {spec.slots:,} images need {needed / GIB:.2f} GiB, but {where} has {free / GIB:.2f} GiB free: "
            "free some space there, name another folder in ring.storage, or lower ring.slots"
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that a folder is on, as the kernel calls it; "" if it is not known."""
    found, longest = "", -1
    resolved = folder.resolve()
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, about = line.partition(" - ")
        # the kernel writes space, tab, newline and backslash in octal digits
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4]))
        if (point == resolved or point in resolved.parents) and len(point.parts) >= longest:
            found, longest = about.split()[0], len(point.parts)
    return found


def hold(file: Path) -> int:
    """Make the file if it is not there, and lock it. Waits for processes of an earlier attempt to end.

    Returns:
        A descriptor; the lock ends when it and all copies of it in other processes are closed.

    Raises:
        UserError: it cannot be made, or is in use.
    """
    deadline = time.monotonic() + LOCK_LIMIT_S
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(
                f"cannot make {file} for the ring's images: {error.strerror}; choose another folder for ring.storage"
            ) from error
        if lock(descriptor) and _is_still(file, descriptor):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise UserError(f"{file} is in use by a run that has not ended: stop it first")
        time.sleep(0.1)


def lock(descriptor: int, shared: bool = False) -> bool:
    """Lock a file until the descriptor is closed everywhere. Return False when another has it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the locked file is the one that has the name: it may have been removed before it was locked."""
    with suppress(FileNotFoundError):
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    return False


def record_file(run_dir: Path, file: Path) -> None:
    """Write into the run folder where its ring's images are, and into the file whose they are.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_owner(file, run_dir)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; look at that disk") from error
    write_json(RunFolder(run_dir).ring_file, {"file": str(file)})


def remove_file(run_dir: Path) -> str:
    """Remove the images of a run that is completed. Return why they are still there, "" if they are not."""
    file = recorded_file(run_dir)
    if file is None:
        return ""
    try:
        file.unlink(missing_ok=True)
        RunFolder(run_dir).ring_file.unlink(missing_ok=True)
    except OSError as error:
        return f"cannot remove {file}, which the run no longer needs: {error.strerror}"
    return ""
