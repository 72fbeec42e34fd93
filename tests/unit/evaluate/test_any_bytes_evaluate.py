"""Whatever stands in the files that `evaluate` is given: they are read, or refused in a line, at a bounded cost."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from damaged_files import (
    MIB,
    assert_any_bytes_are_read_or_refused,
    assert_cheap,
    assert_large_files_are_cheap,
    damaged,
)
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.base.pictures import open_picture
from polygen_stream.evaluate.class_folders import class_pictures
from polygen_stream.evaluate.prompts import read_templates
from polygen_stream.evaluate.tables import read_table
from polygen_stream.evaluate.web_dataset import labelled
from polygen_stream.evaluate.weights import read_weights


def _image(form: str = "png") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, form)
    return data.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _torch_state() -> bytes:
    data = io.BytesIO()
    torch.save({"state_dict": {"module.a": torch.zeros(3)}}, data)
    return data.getvalue()


def _read_table(file: Path) -> None:
    table = read_table(file, ("image", "caption"))
    table.check_different("image", "caption")


def _read_folder(file: Path) -> None:
    """FOLDER/test/CLASS/picture."""
    for picture in class_pictures(file.parents[2], "test").files:
        open_picture(picture, str(picture))


def _read_in_split(file: Path) -> None:
    """FOLDER/test/0.tar or nshards.txt."""
    _web_dataset(file.parents[1], leave=file)
    _all_of(file.parents[1])


def _read_class_names(file: Path) -> None:
    _web_dataset(file.parent, leave=file)
    _all_of(file.parent)


def _all_of(folder: Path) -> None:
    for picture, label in labelled(str(folder), "test", lambda image: torch.zeros(3)).dataset:
        assert picture is not None and label in (0, 1, 2)


def _web_dataset(folder: Path, leave: Path) -> None:
    contents = {
        "classnames.txt": b"a car\na dog\n",
        "zeroshot_classification_templates.txt": b"a photo of {c}\n",
        "test/nshards.txt": b"1",
        "test/0.tar": SHARD,
    }
    for name, content in contents.items():
        if folder / name != leave:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


SHARD = _tar({"0.png": _image(), "0.cls": b"0", "1.png": _image(), "1.cls": b"1"})
READERS: dict[str, tuple[Callable[[Path], Any], str, bytes]] = {
    "table": (_read_table, "pairs.tsv", b'image\tcaption\na.png\t"a ""red"" car"\nb.png\ta dog\n'),
    "prompts": (read_templates, "prompts.txt", b"a photo of {c}.\n{c}, small\n"),
    "image folder": (_read_folder, "data/test/car/0.png", _image()),
    "JPEG": (_read_folder, "data/test/car/0.jpg", _image("jpeg")),
    "TIFF": (_read_folder, "data/test/car/0.tif", _image("tiff")),
    "shard": (_read_in_split, "web/test/0.tar", SHARD),
    "class names": (_read_class_names, "web/classnames.txt", b"a car\na dog\na cat\n"),
    "number of shards": (_read_in_split, "web/test/nshards.txt", b"1"),
    "safetensors": (read_weights, "w.safetensors", safetensors.torch.save({"a": torch.zeros(2, 3)})),
    "torch weights": (read_weights, "w.pt", _torch_state()),
}


def _file(kind: str, folder: Path) -> Path:
    file = folder / READERS[kind][1]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.parents[1].name == "test":  # a second class
        other = file.parents[1] / "dog" / "0.png"
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(_image())
    return file


@pytest.mark.parametrize("kind", READERS)
def test_the_undamaged_file_is_read(kind, tmp_path):
    (read, _, whole), file = READERS[kind], _file(kind, tmp_path)
    file.write_bytes(whole)
    read(file)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_read_or_refused(kind, tmp_path):
    (read, _, whole), file = READERS[kind], _file(kind, tmp_path)
    damage = damaged(whole) | st.binary(max_size=8).map(lambda head: head + whole[len(head) :])
    assert_any_bytes_are_read_or_refused(read, file, damage)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, pixels: bytes = b"", more: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")


PICTURES = {
    "2**31 pixels wide": _png(2**31 - 1, 1),
    "2**40 pixels": _png(2**20, 2**20),
    "no pixels": _png(0, 8),
    "a comment of 200 MiB": _png(8, 8, bytes(25 * 8), _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 * MIB), 9))),
    "a profile of 200 MiB": _png(8, 8, bytes(25 * 8), _chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200 * MIB), 9))),
}


@pytest.mark.extended  # hundreds of processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", READERS)
def test_a_file_costs_no_more_than_its_size_lets_one_expect(kind, tmp_path):
    (read, _, whole), file = READERS[kind], _file(kind, tmp_path)
    assert_large_files_are_cheap(read, file, whole)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_unpacks_to_more_than_it_may(name, tmp_path):
    """In a folder and in a shard."""
    read, file = _read_folder, _file("image folder", tmp_path)
    assert_cheap(read, file, PICTURES[name])
    shard = _file("shard", tmp_path)
    assert_cheap(_read_in_split, shard, _tar({"0.png": PICTURES[name], "0.cls": b"0"}))
