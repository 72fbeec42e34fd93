"""The images of a ring in a file, for rings larger than memory; and what a resumed run needs to know of each.

    header: JSON | records [slots] | padding to a page | images [slots], each padded to a page

A record says what the image in a slot is of and which checksum it has. The process that commits an image writes it
after the image, so after a kill of all processes it can be told which images are whole (take_over.py). After a power
failure pages of either may be missing, which the checksum shows.

Everything is read and written by pread and pwrite, not through a mapping: a write of whole pages then reads nothing
first, and a failing disk is an error and not a SIGBUS. The page cache is the operating system's: a ring that fits into
free memory is read from memory.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.ring.checksum import checksums
from polygen_stream.ring.errors import RingMismatch
from polygen_stream.ring.layout import PAGE, RingColumns
from polygen_stream.ring.records import Polarity
from polygen_stream.ring.spec import RingSpec

FORMAT, VERSION = "polygen-stream ring images", 1
SUFFIX = ".ring"  # of the file's name
HEADER = 4 * PAGE  # a path and the names of all generators fit
# A task is stored as its id + 1: a file that was only allocated has no image. `text` is the key of T+ or T- (texts.py),
# whichever the image shows.
RECORD = np.dtype(
    [("task_plus_1", "i8"), ("text", "i8"), ("seed", "i8"), ("checksum", "i8"), ("member", "i4"), ("generator", "i4")]
)
_NO_IMAGE = bytes(RECORD.itemsize)
_AHEAD = 64  # images that the disk is asked for before they are copied


@dataclass(frozen=True)
class _Places:
    """Byte offsets in the file of a ring."""

    images: int
    stride: int
    total: int

    @classmethod
    def of(cls, spec: RingSpec) -> _Places:
        images = _pages(HEADER + spec.slots * RECORD.itemsize)
        stride = _pages(int(np.prod(spec.image_shape)))
        return cls(images, stride, images + spec.slots * stride)

    def image(self, slot: int) -> int:
        """Return where the image of a slot begins."""
        return self.images + slot * self.stride

    def record(self, slot: int) -> int:
        """Return where its record begins."""
        return HEADER + slot * RECORD.itemsize


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
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, slots: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Store images of members that the caller is writing; see Pixels.

        Raises:
            PolygenError: the disk refuses.
        """
        images = np.ascontiguousarray(images)
        sums = checksums(images)
        records, rows = self._describe(slots, sums), images.reshape(slots.size, self._image_bytes)
        for number, slot in enumerate(slots.tolist()):
            record = self._places.record(slot)
            self._write(_NO_IMAGE, record, slot)  # until the image is whole
            self._write(rows[number].data, self._places.image(slot), slot)
            self._write(records[number].tobytes(), record, slot)
        return sums

    def _describe(self, slots: np.ndarray, sums: np.ndarray) -> np.ndarray:
        c = self._columns
        groups, records = c.slot_group[slots], np.zeros(slots.size, RECORD)
        negative = c.slot_polarity[slots] == Polarity.NEGATIVE
        records["task_plus_1"] = c.group_task[groups] + 1
        records["text"] = np.where(negative, c.group_negative_key[groups], c.group_caption_key[groups])
        records["seed"], records["checksum"] = c.slot_seed[slots], sums
        records["member"], records["generator"] = c.slot_member[slots], c.slot_generator[slots]
        return records

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
                    offset = self._places.image(int(slots[later]))
                    os.posix_fadvise(self._fd, offset, self._image_bytes, os.POSIX_FADV_WILLNEED)
            self._read(rows[place].data, self._places.image(int(slots[place])))
        return out

    def records(self) -> np.ndarray:
        """Return a copy of what the file says of every slot, RECORD [slots].

        Raises:
            PolygenError: the disk refuses, or the file has become shorter.
        """
        found = np.empty(self._spec.slots, RECORD)
        data, at_once = found.view("u1").data, 2**30  # a read returns at most 2 GiB
        for start in range(0, len(data), at_once):
            self._read(data[start : start + at_once], HEADER + start)
        return found

    def _write(self, data: bytes | memoryview, offset: int, slot: int) -> None:
        try:
            done = os.pwrite(self._fd, data, offset)
        except OSError as error:
            raise self._refused("write", error) from error
        if done != len(data):
            raise PolygenError(f"image {slot} of the ring was not written whole to {self._spec.storage}: is it full?")

    def _read(self, data: memoryview, offset: int) -> None:
        try:
            done = os.preadv(self._fd, [data], offset)
        except OSError as error:
            raise self._refused("read", error) from error
        if done != len(data):
            raise PolygenError(
                f"{self._spec.storage} ends after {offset + done} bytes, and the images of the ring need "
                f"{self._places.total}: the file was cut while the run went on"
            )

    def _refused(self, what: str, error: OSError) -> PolygenError:
        return PolygenError(
            f"cannot {what} an image of the ring in {self._spec.storage}: {error.strerror}; look at that disk"
        )

    def close(self) -> None:
        """Close the file."""
        del self._columns
        os.close(self._fd)


def prepare_file(spec: RingSpec) -> None:
    """Make the file of a ring, all of it allocated, or take the one that is there. The caller sees to locks.

    Raises:
        UserError: there is too little space, or the folder cannot be written to.
        RingMismatch: there is a file, but of a ring with another spec.
        ValueError: RingSpec.storage is no path that ends in SUFFIX, such as the folder of ring.storage.
    """
    path = Path(spec.storage)
    if path.suffix != SUFFIX:
        raise ValueError(f"RingSpec.storage = {spec.storage!r} is not the path of a file *{SUFFIX}")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(
            f"cannot make {path} for the ring's images: {error.strerror}; choose another folder for ring.storage"
        ) from error
    try:
        header = read_header(path)
        new = os.fstat(fd).st_size == 0 or (header is not None and not header["allocated"])
        if not new:
            check_header(path, spec)
        _allocate(fd, path, spec, new)
    finally:
        os.close(fd)


def _allocate(fd: int, path: Path, spec: RingSpec, new: bool) -> None:
    """Give the file all of its space: also one that was there, for a copy of it may have holes."""
    needed = file_bytes(spec)
    try:
        if new:
            os.truncate(fd, 0)  # one that was not allocated to its end has no image
            os.pwrite(fd, _header_page(_described(spec) | {"allocated": False}), 0)
        os.posix_fallocate(fd, 0, needed)
        if new:
            os.pwrite(fd, _header_page(_described(spec) | {"allocated": True}), 0)
    except OSError as error:
        if new:
            path.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"cannot write {path} for the ring's images: {error.strerror}") from error
        disk = os.statvfs(path.parent)
        raise UserError(
            f"the ring's images need {needed / 2**20:.0f} MiB, but {path.parent} has "
            f"{disk.f_bavail * disk.f_frsize / 2**20:.0f} MiB free ({error.strerror}): free some space there, choose "
            "another folder for ring.storage, or lower ring.slots"
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


def _header_page(values: dict[str, object]) -> bytes:
    page = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")
    assert len(page) <= HEADER, "the longest path and the names of all generators fit"
    return page.ljust(HEADER)


def write_owner(path: Path, run_dir: Path) -> None:
    """Write into the header of a file which run its images are of.

    Raises:
        OSError: it cannot be written.
    """
    header = read_header(path)
    assert header is not None, f"{path} is no file of a ring"
    with path.open("r+b") as file:
        file.write(_header_page(header | {"run": str(run_dir)}))


def read_header(path: Path) -> dict[str, object] | None:
    """Return the header of a file of images; None if it is none."""
    with path.open("rb") as file:
        head = file.read(HEADER)
    try:
        header = json.loads(head.decode("utf-8", "surrogateescape"))
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
