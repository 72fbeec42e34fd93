"""The images of a ring in a file, for rings larger than memory; and what a resumed run needs to know of each.

    header page: JSON | records [slots] | padding to a page | images [slots], each padded to a page

A record says what the image in a slot is of and which checksum it has. It is written after the image, by the process
that commits it, so after a kill of all processes it can be told which images are whole (kept_images.py). After a power
failure pages of either may be missing, which the checksum shows.

Images are copied by pread and pwrite, not through a mapping: a write of whole pages then reads nothing first, and a
failing disk is an error and not a SIGBUS. The page cache is the operating system's: a ring that fits into free memory
is read from memory.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.errors import RingMismatch
from polygen_stream.ring.layout import PAGE, RingColumns
from polygen_stream.ring.spec import RingSpec

FORMAT, VERSION = "polygen-stream ring images", 1
# A task is stored as its id + 1: a file that was only allocated has no image.
RECORD = np.dtype([("task_plus_1", "i8"), ("seed", "i8"), ("checksum", "i8"), ("member", "i4"), ("generator", "i4")])
_AHEAD = 64  # images that the disk is asked for before they are copied


@dataclass(frozen=True)
class _Places:
    """Byte offsets in the file of a ring."""

    images: int
    stride: int
    total: int

    @classmethod
    def of(cls, spec: RingSpec) -> _Places:
        images = _pages(PAGE + spec.slots * RECORD.itemsize)
        stride = _pages(int(np.prod(spec.image_shape)))
        return cls(images, stride, images + spec.slots * stride)

    def offset(self, slot: int) -> int:
        """Return where the image of a slot begins."""
        return self.images + slot * self.stride


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def file_bytes(spec: RingSpec) -> int:
    """Return the bytes of the file of a ring with RingSpec.storage."""
    return _Places.of(spec).total


class PixelFile:
    """One process's view of the file. Safe to use from several threads.

    Args:
        spec: of the ring.
        columns: of the ring: what a slot's image is of.
        read_only: whether images are only read.

    Raises:
        RingMismatch: the file is missing, or is not that of a ring with this spec.
    """

    def __init__(self, spec: RingSpec, columns: RingColumns, *, read_only: bool = False) -> None:
        self._spec, self._columns, self._places = spec, columns, _Places.of(spec)
        self._image_bytes = int(np.prod(spec.image_shape))
        try:
            self._fd = os.open(spec.storage, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            raise RingMismatch(
                f"the ring's images in {spec.storage} cannot be opened ({error.strerror}); the file has to stay where "
                "it is while the run goes on"
            ) from error
        try:
            check_header(Path(spec.storage), spec)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)
            access = mmap.ACCESS_READ if read_only else mmap.ACCESS_WRITE
            self._map = mmap.mmap(self._fd, self._places.images, access=access)
        except BaseException:
            os.close(self._fd)
            raise
        self.records = np.frombuffer(self._map, RECORD, spec.slots, PAGE)

    def write(self, slots: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Store images of members that the caller is writing; see Pixels.

        Raises:
            PolygenError: the disk refuses.
        """
        images, records, c = np.ascontiguousarray(images), self.records, self._columns
        sums = checksums(images)
        records["task_plus_1"][slots] = 0  # until the image is whole
        for slot, row in zip(slots.tolist(), images.reshape(slots.size, self._image_bytes), strict=True):
            try:
                done = os.pwrite(self._fd, row.data, self._places.offset(slot))
            except OSError as error:
                raise self._refused("write", error) from error
            self._check_whole("wrote", done, slot)
        records["seed"][slots] = c.slot_seed[slots]
        records["checksum"][slots] = sums
        records["member"][slots] = c.slot_member[slots]
        records["generator"][slots] = c.slot_generator[slots]
        records["task_plus_1"][slots] = c.group_task[c.slot_group[slots]] + 1
        return sums

    def read(self, slots: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy images; see Pixels. The disk works on the next ones meanwhile.

        Raises:
            PolygenError: the disk refuses, or the file has become shorter.
        """
        if out is None:
            out = np.empty((slots.size, *self._spec.image_shape), np.uint8)
        rows, in_order = out.reshape(slots.size, self._image_bytes), np.argsort(slots, kind="stable").tolist()
        for number, place in enumerate(in_order):
            if number % _AHEAD == 0 and slots.size > 1:
                for later in in_order[number : number + 2 * _AHEAD]:
                    offset = self._places.offset(int(slots[later]))
                    os.posix_fadvise(self._fd, offset, self._image_bytes, os.POSIX_FADV_WILLNEED)
            slot = int(slots[place])
            try:
                done = os.preadv(self._fd, [rows[place].data], self._places.offset(slot))
            except OSError as error:
                raise self._refused("read", error) from error
            self._check_whole("read", done, slot)
        return out

    def _refused(self, what: str, error: OSError) -> PolygenError:
        return PolygenError(
            f"cannot {what} an image of the ring in {self._spec.storage}: {error.strerror}; look at that disk"
        )

    def _check_whole(self, what: str, done: int, slot: int) -> None:
        if done != self._image_bytes:
            raise PolygenError(
                f"{what} {done} of {self._image_bytes} bytes of image {slot} of the ring in {self._spec.storage}: the "
                "file was cut, or its disk is full"
            )

    def close(self) -> None:
        """Close the file."""
        del self.records, self._columns, self._map
        os.close(self._fd)


def prepare_file(spec: RingSpec) -> int:
    """Make the file of a ring, all of it allocated, or take the one that is there.

    Returns:
        A descriptor, to be kept open by the process that owns the ring: it locks the file against `remove_unused`.

    Raises:
        UserError: there is too little space, the folder cannot be written to, or another run uses the file.
        RingMismatch: there is a file, but of a ring with another spec.
    """
    path = Path(spec.storage)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"cannot make {path} for the ring's images: {error.strerror}; choose another folder for ring.storage"
        ) from error
    try:
        if not lock(fd):
            raise UserError(f"{path} is in use by another run: stop it first")
        if os.fstat(fd).st_size:
            check_header(path, spec)
        else:
            _lay_out(fd, path, spec)
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(fd: int) -> bool:
    """Lock a file of images for its ring's owner, until the descriptor is closed. Return False when it is in use."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lay_out(fd: int, path: Path, spec: RingSpec) -> None:
    places = _Places.of(spec)
    try:
        os.posix_fallocate(fd, 0, places.total)
        os.pwrite(fd, json.dumps(_described(spec)).encode().ljust(PAGE), 0)  # last: before that it is no file of a ring
    except OSError as error:
        path.unlink(missing_ok=True)
        free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"cannot write {path} for the ring's images: {error.strerror}") from error
        raise UserError(
            f"the ring's images need {places.total / 2**20:.0f} MiB, but {path.parent} has {free / 2**20:.0f} MiB free "
            f"({error.strerror}): free some space there, choose another folder for ring.storage, or lower ring.slots"
        ) from error


def _described(spec: RingSpec) -> dict[str, object]:
    """Return what two rings have to agree on for one to take the other's images."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "slots": spec.slots,
        "image_shape": list(spec.image_shape),
        "generators": list(spec.generators),
        "seed": spec.seed,
    }


def write_owner(path: Path, run_dir: Path) -> None:
    """Write into the header of a file which run its images are of."""
    header = read_header(path)
    assert header is not None, f"{path} is no file of a ring"
    with path.open("r+b") as file:
        file.write(json.dumps(header | {"run": str(run_dir)}).encode().ljust(PAGE))


def read_header(path: Path) -> dict[str, object] | None:
    """Return the header of a file of images; None if it is none."""
    with path.open("rb") as file:
        head = file.read(PAGE)
    try:
        header = json.loads(head)
    except ValueError:
        return None
    return header if isinstance(header, dict) and header.get("format") == FORMAT else None


def check_header(path: Path, spec: RingSpec) -> None:
    """Refuse a file that is not that of a ring with this spec.

    Raises:
        RingMismatch: which values differ.
    """
    theirs, ours = read_header(path), _described(spec)
    if theirs is None:
        raise RingMismatch(f"{path} does not hold the images of a ring: move it away")
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise RingMismatch(
                f"{path} holds images of a ring with {name} = {theirs.get(name)}, this one has {value}: resume with "
                "the config of the run that made it, or move it away"
            )
    size, needed = path.stat().st_size, file_bytes(spec)
    if size < needed:
        raise RingMismatch(f"{path} has {size} bytes, the ring's images need {needed}: it was cut; move it away")
