"""Packages of pictures: downloaded by npm, compared with the checksum of the list, and read without being unpacked."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.secrets import redact
from polygen_stream.evaluate.transfer.picture_list import Package

TIMEOUT_S = 600.0
MAX_FILE = 64 * 2**20  # bytes of a file that is read
MAX_ARCHIVE = 256 * 2**20  # bytes of everything in an archive
TOP = "package/"  # the folder that npm puts a package's files in


def find_npm() -> str:
    """Return the path of npm.

    Raises:
        UserError: It is not installed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "npm is not installed, and the pictures are in packages of its registry: install Node.js with npm, or copy"
            " a folder that `polygen-stream fetch-pictures` made on another machine"
        )
    return npm


def download(package: Package, folder: Path) -> Path:
    """Let npm download a package's archive into an empty folder; none of the package's code runs.

    npm asks the registry, through the proxy and with the account, that it is configured for.

    Returns:
        The archive, which is the one that the list means.

    Raises:
        UserError: npm is not installed.
        PolygenError: There is no network, no such package, or its archive is another than the listed one.
    """
    command = [
        find_npm(), "pack", package.spec, "--pack-destination", str(folder), "--ignore-scripts", "--loglevel", "error",
        "--fetch-retries", "1", "--fetch-retry-mintimeout", "1000",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _not_fetched(package, f"no end after {TIMEOUT_S:.0f} s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise _not_fetched(package, _said(done.stderr.decode(errors="replace")))
    check_integrity(archives[0], package)
    return archives[0]


def check_integrity(archive: Path, package: Package) -> None:
    """Compare an archive with the checksum of the list.

    Raises:
        PolygenError: It is another one.
    """
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != package.integrity:
        raise PolygenError(
            f"the archive of {package.spec} is not the one that was reviewed: its checksum is {found[:20]}..., the"
            f" list has {package.integrity[:20]}...; nothing of it was used: look at what the registry serves"
        )


def read_files(archive: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Return the content of some files of a package; nothing is written anywhere.

    Args:
        archive: A gzipped tar archive.
        wanted: Paths inside the package.

    Raises:
        PolygenError: A file is missing, occurs twice, is no regular file or too large, or the archive is damaged or
            too large.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=_Bounded(stream, archive.name), mode="r|") as tar:
            for member in tar:
                name = member.name.removeprefix(TOP)
                if name not in wanted:
                    continue
                if name in found:
                    raise _unusable(archive, f"it has {name} twice")
                if not member.isreg():
                    raise _unusable(archive, f"{name} is no regular file")
                if member.size > MAX_FILE:
                    raise _unusable(archive, f"{name} has {member.size} bytes, more than {MAX_FILE}")
                content = tar.extractfile(member)
                assert content is not None  # of a regular file
                found[name] = content.read()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise _unusable(archive, f"it is damaged: {problem}") from None
    if missing := sorted(set(wanted) - set(found)):
        raise _unusable(archive, f"it has no {missing[0]}")
    return found


class _Bounded(io.BufferedIOBase):
    """A stream that ends in an error after MAX_ARCHIVE bytes, however few compressed ones they came from."""

    def __init__(self, stream: gzip.GzipFile, named: str) -> None:
        self._stream, self._named, self._left = stream, named, MAX_ARCHIVE

    def read(self, size: int | None = -1, /) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise PolygenError(f"cannot use the package {self._named}: it has more than {MAX_ARCHIVE} bytes")
        return content


def _unusable(archive: Path, why: str) -> PolygenError:
    return PolygenError(f"cannot use the package {archive.name}: {why}")


def _not_fetched(package: Package, said: str) -> PolygenError:
    return PolygenError(
        f"npm cannot download {package.spec} ({said}): check the network and npm's settings (`npm config list`), and"
        " run it again"
    )


def _said(errors: str) -> str:
    """Return what npm says went wrong, in one line."""
    lines = [line.removeprefix("npm error").strip() for line in errors.splitlines()]
    told = [line for line in lines if line and line.split()[0] not in ("code", "syscall", "errno")]
    return redact(told[0]) if told else "it says nothing"
