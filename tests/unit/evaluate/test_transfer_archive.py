"""Archives of packages: only what is wanted is read, nothing is written, and what is not as expected is refused."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from local_npm import integrity_of, tar_of

from polygen_stream.base.errors import PolygenError
from polygen_stream.evaluate.transfer import archive
from polygen_stream.evaluate.transfer.archive import check_integrity, read_files
from polygen_stream.evaluate.transfer.picture_list import Package


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def written(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "a" / "x.tgz"
    file.parent.mkdir()
    file.write_bytes(content)
    return file


def refused(file: Path, *wanted: str) -> str:
    with pytest.raises(PolygenError) as problem:
        read_files(file, wanted)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_paths_that_lead_out_of_the_package_are_passed_over(tmp_path):
    outside = tmp_path / "outside"
    file = written(
        tmp_path,
        tar_of({
            "package/../../outside": b"evil",
            str(outside): b"evil",
            member("package/link", tarfile.SYMTYPE, str(tmp_path)): b"",
            "package/link/outside": b"evil",
            "package/icons.json": b"{}",
        }),
    )  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    assert read_files(file, ["icons.json"]) == {"icons.json": b"{}"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_what_is_wanted_has_to_be_a_regular_file(tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    file = written(tmp_path, tar_of({member("package/icons.json", kind, os.path.join("..", "secret")): b""}))
    assert "icons.json is no regular file" in refused(file, "icons.json")


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    first, second = tarfile.TarInfo("package/icons.json"), tarfile.TarInfo("package/icons.json")
    assert "it has icons.json twice" in refused(written(tmp_path, tar_of({first: b"1", second: b"2"})), "icons.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE", 1000)
    file = written(tmp_path, tar_of({"package/icons.json": bytes(1001)}))
    assert "icons.json has 1001 bytes, more than 1000" in refused(file, "icons.json")


def test_an_archive_that_grows_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ARCHIVE", 100_000)
    file = written(tmp_path, tar_of({"package/filler": bytes(1_000_000), "package/icons.json": b"{}"}))
    assert file.stat().st_size < 10_000
    assert "it has more than 100000 bytes" in refused(file, "icons.json")


@pytest.mark.parametrize("kept", [0, 5, 60])
def test_a_damaged_archive_is_refused(tmp_path, kept):
    content = tar_of({"package/icons.json": os.urandom(5000)})
    assert "x.tgz" in refused(written(tmp_path, content[:kept]), "icons.json")


def test_a_missing_file_is_named(tmp_path):
    assert "it has no icons.json" in refused(written(tmp_path, tar_of({"package/x": b""})), "icons.json")


def test_one_changed_byte_is_another_archive(tmp_path):
    content = tar_of({"package/icons.json": b"{}"})
    package = Package("x", "1.0.0", integrity_of(content), "MIT", "", "", "pictogram", {})
    file = written(tmp_path, content)
    check_integrity(file, package)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PolygenError, match=r"the archive of x@1\.0\.0 is not the one that was reviewed"):
        check_integrity(file, package)
