"""The files in a shard (a tar file of samples), read one after another and never more of one than it may have.

A tar file may be compressed a thousandfold, and a header may say any size: sizes are compared with the limits before
anything is read, and what is decompressed at a time is a few KiB.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO, Protocol, cast

from polygen_stream.base.errors import UserError

MIB = 2**20
MAX_PICTURE = 64 * MIB  # bytes of the file of a picture
MAX_TEXT = 1 * MIB  # of any other file of a sample, and of a header with a long name
_BLOCK = 64 * 1024
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open, b"\x5d\0\0": lzma.open}
_LONG = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Readable(Protocol):
    """What a shard is read from; it need not be able to go back."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        ...


def shard_members(
    stream: Readable, shard: str, pictures: Collection[str], texts: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a shard; the content of files of no use is not read, and empty.

    Args:
        stream: The shard, plain or compressed by gzip, bzip2 or xz.
        shard: What to call it in messages.
        pictures: Extensions, without the dot and in lower case, of files with at most MAX_PICTURE bytes.
        texts: Extensions of files with at most MAX_TEXT bytes.

    Raises:
        UserError: A file is larger than it may be.
        Exception: The shard is damaged: tarfile and what decompresses have an error for each way.
    """

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            header = super().frombuf(buf, encoding, errors)
            if header.type in _LONG and header.size > MAX_TEXT:  # tarfile reads it whole
                raise _too_large(shard, f"the header of {header.name}", header.size, "a header", MAX_TEXT)
            return header

    with tarfile.open(fileobj=_plain(stream), mode="r|", tarinfo=Header) as tar:
        for header in tar:
            tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  # else it keeps all of them
            if not header.isreg():
                continue
            content, extension = b"", _extension(header.name)
            for extensions, what, limit in ((pictures, "a picture", MAX_PICTURE), (texts, "a text", MAX_TEXT)):
                if extension not in extensions:
                    continue
                if header.size > limit:
                    raise _too_large(shard, header.name, header.size, what, limit)
                file = tar.extractfile(header)
                assert file is not None, "it is a regular file"
                content = file.read()
            yield header.name, content


def _too_large(shard: str, name: str, size: int, what: str, limit: int) -> UserError:
    return UserError(
        f"{shard}: {name} has {size} bytes, and {what} has at most {limit} ({limit // MIB} MiB): remove it, or "
        "write it smaller"
    )


def _extension(name: str) -> str:
    """Return what webdataset takes for the extension: all behind the first dot of the file's name."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _plain(stream: Readable) -> BinaryIO:
    """Return the tar file in a stream that may be compressed."""
    ahead = _Ahead(stream)
    head = ahead.peek(8)
    plain = next((unpack(ahead, "rb") for magic, unpack in _MAGIC.items() if head.startswith(magic)), ahead)
    return cast(BinaryIO, plain)


class _Ahead(io.BufferedReader):
    """A stream whose first bytes can be looked at, also if it is a pipe."""

    def __init__(self, stream: Readable) -> None:
        super().__init__(_Raw(stream), _BLOCK)


class _Raw(io.RawIOBase):
    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)
