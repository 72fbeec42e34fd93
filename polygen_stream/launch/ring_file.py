"""The file of a run's ring, if ring.storage names a folder for it: where it is, whether it can be there, its end.

It outlives an interrupted run, whose folder has its path, and goes when the run is completed.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import nearest_existing
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.config import MEMORY, RunConfig
from polygen_stream.ring.pixel_file import file_bytes, write_owner
from polygen_stream.ring.spec import RingSpec

SUFFIX = ".ring"
GIB = 2**30
# On these a lock may not hold, and every picture crosses the network twice.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "afs", "9p", "fuse.sshfs"}


def recorded_file(run_dir: Path) -> Path | None:
    """Return the file that a run put its ring's images in, which need not be there any more; None without one."""
    file = read_json(RunFolder(run_dir).ring_file).get("file")
    return Path(file) if isinstance(file, str) else None


def choose_file(config: RunConfig, run_dir: Path) -> Path | None:
    """Return the file of a run's ring; None for a ring in memory.

    That of an earlier attempt, if it is in the folder that the config names now; else a new one.
    """
    if config.ring.storage == MEMORY:
        return None
    folder = Path(config.ring.storage).absolute()
    earlier = recorded_file(run_dir)
    if earlier is not None and earlier.parent == folder:
        return earlier
    mark = hashlib.blake2b(str(run_dir).encode(), digest_size=4).hexdigest()
    return folder / f"{run_dir.name}-{mark}{SUFFIX}"


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
    free, needed = shutil.disk_usage(there).free, file_bytes(spec)
    if free < needed and not file.exists():
        raise UserError(
            f"the ring's {spec.slots:,} images need {needed / GIB:.2f} GiB, but {there} has {free / GIB:.2f} GiB free: "
            "free some space there, name another folder in ring.storage, or lower ring.slots"
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that a folder is on, as the kernel calls it; "" if it is not known."""
    found, longest = "", -1
    resolved = folder.resolve()
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields, _, about = line.partition(" - ")
        point = Path(fields.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape"))
        if (point == resolved or point in resolved.parents) and len(point.parts) >= longest:
            found, longest = about.split()[0], len(point.parts)
    return found


def make_folder(file: Path) -> None:
    """Make the folder of a ring's file.

    Raises:
        UserError: it cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make ring.storage = {str(file.parent)!r}: {error.strerror}") from error


def record_file(run_dir: Path, file: Path) -> None:
    """Write into the run folder where its ring's images are, and into the file whose they are."""
    write_owner(file, run_dir)
    write_json(RunFolder(run_dir).ring_file, {"file": str(file)})


def remove_file(run_dir: Path) -> None:
    """Remove the images of a run that is completed."""
    file = recorded_file(run_dir)
    if file is not None:
        file.unlink(missing_ok=True)
        RunFolder(run_dir).ring_file.unlink(missing_ok=True)
