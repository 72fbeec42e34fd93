"""One anonymous memfd: checked against the memory that is really there, allocated at once, never resizable.

Nothing has a name, so nothing is left in /dev/shm after any kind of death, and the size of /dev/shm is no
limit.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.ring.errors import RingMismatch

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def allocate(nbytes: int) -> int:
    """Return a close-on-exec memfd of `nbytes` with all pages present.

    Allocating past RAM on a memfd is an OOM kill, not an error, so the available memory is compared first.

    Raises:
        UserError: there is not enough memory.
    """
    available, source = available_bytes()
    if nbytes > available:
        raise UserError(
            f"the ring needs {nbytes / 2**20:.0f} MiB but only {available / 2**20:.0f} MiB are available "
            f"({source}); lower ring.slots or ring.image_size"
        )
    fd = os.memfd_create("polygen-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, nbytes)
        # it cannot be truncated under a process that has mapped it: access past a shrunk end would be SIGBUS
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        raise UserError(
            f"the ring's {nbytes / 2**20:.0f} MiB could not be allocated ({error.strerror}); lower ring.slots"
        ) from error
    return fd


def map_all(fd: int) -> mmap.mmap:
    """Map the whole descriptor shared and writable, and mark it close-on-exec. Raises RingMismatch."""
    try:
        size = os.fstat(fd).st_size
        os.set_inheritable(fd, False)
        return mmap.mmap(fd, size)
    except (OSError, ValueError) as error:
        raise RingMismatch(
            f"descriptor {fd} cannot be mapped as a ring ({error}); pass the supervisor's ring descriptor on"
        ) from error


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> tuple[int, str]:
    """Return the bytes that can be allocated without an OOM kill, and which limit says so."""
    rooms = [(room, f"memory limit of cgroup {path}") for room, path in _cgroup_rooms(proc, cgroups)]
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            rooms.append((int(line.split()[1]) * 1024, "MemAvailable"))
    return min(rooms)


def _cgroup_rooms(proc: Path, cgroups: Path) -> list[tuple[int, str]]:
    """Return the room left under the limit of our cgroup and of each of its ancestors (version 2 and version 1)."""
    rooms = []
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / path.lstrip("/")
        while folder == root or root in folder.parents:
            room = _room(folder, *names)
            if room is not None:
                rooms.append((room, str(folder)))
            folder = folder.parent
    return rooms


def _room(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text().strip()
        usage = int((folder / usage_name).read_text())
        stat = (folder / "memory.stat").read_text().split()
    except OSError:  # the controller is not enabled at this level, or the hierarchy is not mounted
        return None
    if limit == "max":
        return None
    # the page cache counts as used but is given back under pressure
    reclaimable = int(stat[stat.index(reclaimable_name) + 1]) if reclaimable_name in stat else 0
    return max(0, int(limit) - usage + reclaimable)
