"""Shards that are larger inside than outside: nothing is read that is larger than it may be."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from damaged_files import BASE_MIB, MIB, cost
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.base.shard_members import MAX_PICTURE, MAX_TEXT, shard_members
from polygen_stream.evaluate import web_dataset
from polygen_stream.export.reading import read_tasks

HUGE = 100 * MIB
PACKED = {"plain": open, "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
USTAR = {"format": tarfile.USTAR_FORMAT}


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "png")
    return stream.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(**USTAR)


def write(path: Path, packed: str, *parts: bytes | int) -> Path:
    """A file of bytes and of numbers of zeros; where nothing is packed the zeros are a hole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with PACKED[packed](path, "wb") as file:
        for part in parts:
            if isinstance(part, bytes):
                file.write(part)
            elif packed == "plain":
                file.seek(part - 1, os.SEEK_CUR)
                file.write(b"\0")
            else:
                for _ in range(part // MIB):
                    file.write(bytes(MIB))
                file.write(bytes(part % MIB))
    return path


def sample(*, extra: tuple[bytes | int, ...] = ()) -> tuple[bytes | int, ...]:
    """A whole sample of both readers, and what comes before it; then the end of a tar file."""
    files = {
        "0.png": png(),
        "0.txt": b"a red car",
        "0.cls": b"0",
        "0.json": b'{"task": 0, "member": 0, "polarity": "positive", "generator": "g", "seed": 1}',
    }
    parts = [part for name, data in files.items() for part in (header(name, len(data)), data.ljust(512, b"\0"))]
    return (*extra, *parts, 1024)


def evaluated(file: Path) -> int:
    """Reads DATASET/test/0.tar."""
    dataset = file.parents[1]
    for name, text in (
        ("classnames.txt", "a\nb\n"), ("zeroshot_classification_templates.txt", "a {c}"), ("test/nshards.txt", "1"),
    ):  # fmt: skip
        (dataset / name).write_text(text)
    return sum(1 for _ in web_dataset.labelled(str(dataset), "test", np.asarray).dataset)


def trained_on(file: Path) -> int:
    return sum(len(task) for task in read_tasks(file.parent, ("g",)))


READERS = {"evaluated": evaluated, "trained on": trained_on}


PICTURE = (
    "a.png", tarfile.REGTYPE, rf"0\.tar: a\.png has {HUGE} bytes, and a picture has at most {MAX_PICTURE} \(64 MiB\)"
)  # fmt: skip
OTHERS = (
    ("a.txt", tarfile.REGTYPE, rf"0\.tar: a\.txt has {HUGE} bytes, and a text has at most {MAX_TEXT} \(1 MiB\)"),
    ("x", tarfile.XHDTYPE, rf"0\.tar: the header of x has {HUGE} bytes, and a header has at most {MAX_TEXT} "),
    ("././@LongLink", tarfile.GNUTYPE_LONGNAME, rf"the header of \././@LongLink has {HUGE} bytes"),
)


@pytest.mark.parametrize(
    ("packed", "name", "kind", "message"),
    [*((packed, *PICTURE) for packed in PACKED), *(("gzip", *other) for other in OTHERS)],
)
@pytest.mark.parametrize("read", READERS)
def test_what_is_too_large_is_named_and_not_read(tmp_path, read, packed, name, kind, message):
    file = write(tmp_path / "test" / "0.tar", packed, header(name, HUGE, kind), HUGE, 1024)
    with pytest.raises(UserError, match=message) as problem:
        READERS[read](file)
    assert "\n" not in str(problem.value)
    memory, _, outcome = cost(READERS[read], file)
    assert outcome == "refused" and memory < BASE_MIB, memory


@pytest.mark.parametrize(("read", "packed"), [("evaluated", "gzip"), ("evaluated", "bzip2"), ("trained on", "xz")])
def test_large_files_of_no_use_are_passed_over(tmp_path, read, packed):
    extra = (header("0.mp4", HUGE), HUGE, header("README", HUGE), HUGE)
    file = write(tmp_path / "test" / "0.tar", packed, *sample(extra=extra))
    assert READERS[read](file) == 1
    memory, _, outcome = cost(READERS[read], file)
    assert outcome == "read" and memory < BASE_MIB, memory


@pytest.mark.parametrize("packed", PACKED)
def test_a_sparse_file_counts_with_its_holes(tmp_path, packed):
    """GNU tar stores no zeros of it; tarfile makes them."""
    records = b"".join(
        b"%d %b" % (len(record) + 3, record)
        for record in (b"GNU.sparse.major=0\n", b"GNU.sparse.minor=1\n", b"GNU.sparse.size=%d\n" % HUGE)
    )
    records += b"22 GNU.sparse.map=0,1\n"
    file = write(
        tmp_path / "test" / "0.tar", packed, header("x", len(records), tarfile.XHDTYPE), records.ljust(512, b"\0"),
        header("a.png", 1), b"x".ljust(512, b"\0"), 1024,
    )  # fmt: skip
    memory, _, outcome = cost(evaluated, file)
    assert outcome == "refused" and memory < BASE_MIB, memory
    with pytest.raises(UserError, match=rf"a\.png has {HUGE} bytes"):
        evaluated(file)


@pytest.mark.parametrize("size", [MAX_TEXT, MAX_TEXT + 1])
def test_the_largest_text_is_still_read(tmp_path, size):
    text = b"a" * size
    file = write(tmp_path / "0.tar", "gzip", header("a.TXT", size), text, -size % 512, 1024)
    with file.open("rb") as stream:
        if size > MAX_TEXT:
            with pytest.raises(UserError, match=r"a\.TXT has 1048577 bytes"):
                list(shard_members(stream, "s", ("png",), ("txt",)))
        else:
            assert list(shard_members(stream, "s", ("png",), ("txt",))) == [("a.TXT", text)]
