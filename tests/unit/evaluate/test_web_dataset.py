"""WebDatasets for evaluation: what is read of them, and what is said of damaged and foreign ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate import web_dataset


def png(colour: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), colour).save(stream, "PNG")
    return stream.getvalue()


def shard(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


SAMPLES = (("0.png", png()), ("0.cls", b"0"), ("1.png", png(9)), ("1.cls", b"1\n"))


def write(root: Path, content: bytes | None = None, **texts: str | bytes) -> Path:
    """A dataset of one shard, with other files than usual where `texts` names them."""
    files: dict[str, str | bytes] = {
        "classnames": "cat\ndog\n", "zeroshot_classification_templates": "a {c}", "nshards": "1", **texts,
    }  # fmt: skip
    (root / "test").mkdir(parents=True)
    for name, text in files.items():
        folder = root / "test" if name == "nshards" else root
        (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    (root / "test" / "0.tar").write_bytes(shard(*SAMPLES) if content is None else content)
    return root


def read(root: Path | str) -> list[tuple[int, int]]:
    """(brightness, label) of every sample."""
    dataset = web_dataset.labelled(str(root), "test", lambda picture: np.asarray(picture)).dataset
    return [(int(picture[0, 0, 0]), label) for picture, label in dataset]


def test_samples_are_read_from_a_folder_and_a_url(tmp_path):
    root = write(tmp_path / "own", classnames=b"\xef\xbb\xbfcat\r\ndog\r\n\r\n")
    found = web_dataset.labelled(str(root), "test", np.asarray)
    assert (found.classes, found.templates) == (["cat", "dog"], ["a {c}"])
    assert found.read == [f"1 shard of {root}/test", "2 classes: cat, dog"]
    assert read(root) == read(root.as_uri()) == [(0, 0), (9, 1)]


def test_captions_are_lines(tmp_path):
    root = write(
        tmp_path, shard(("0.png", png()), ("0.txt", b"\xef\xbb\xbfa cat\n\nun caf\xc3\xa9\n")), dataset_type="Retrieval"
    )
    [(_, captions)] = web_dataset.captioned(str(root), "test", np.asarray).dataset
    assert captions == ["a cat", "un café"]
    with pytest.raises(UserError, match="has captions and no classes"):
        web_dataset.labelled(str(root), "test", np.asarray)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (shard(*SAMPLES)[:2000], r"cannot read the shard .*0\.tar: it is cut short after 2000 bytes; get it again"),
        (shard(*SAMPLES)[: 2 * 512 + 2 * 512], r"it is cut short after 2048 bytes"),  # between two samples
        (b"<html>404</html>", r"cannot read the shard .*0\.tar: .*; get it again"),
        (b"", r"0\.tar: it is empty"),
        (shard(("0.png", png()), ("0.cls", b"cat")), r"sample 0: its cls is 'cat', which is no number"),
        (shard(("0.png", png()), ("0.cls", b"-1")), r"its cls is '-1', which is no number"),
        (shard(("0.png", png()), ("0.cls", b"\xb2")), r"which is no number"),
        (shard(("0.png", png()), ("0.cls", b"2")), r"its cls is 2, but classnames\.txt has the classes 0 to 1"),
        (shard(("0.png", png())), r"sample 0 has no cls"),
        (shard(("0.cls", b"0")), r"sample 0 has no picture"),
        (shard(("0.png", b"x"), ("0.cls", b"0")), r"cannot read .*sample 0 as a picture"),
        (shard(("0.png", png()), ("0.png", png())), r"cannot read the shard .*duplicate file name"),
    ],
)
def test_damaged_and_foreign_shards_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as problem:
        read(write(tmp_path, content))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"classnames": "cat\n\ndog\n"}, r"classnames\.txt, line 2 is blank"),
        ({"classnames": "caf\xe9\ndog\n".encode("latin-1")}, r"classnames\.txt is not UTF-8: line 1, byte 4"),
        ({"classnames": "cat"}, r"names one class"),
        ({"zeroshot_classification_templates": "a {}"}, r"\{c\} stands for the class"),
        ({"zeroshot_classification_templates": "\n"}, r"has no prompt"),
        ({"nshards": "many"}, r"nshards\.txt says 'many', which is no number of shards"),
        ({"nshards": "2"}, r"cannot read the shard .*1\.tar: No such file"),
        ({"dataset_type": "multilabel"}, r"several labels per picture"),
    ],
)
def test_files_beside_the_shards_are_checked(tmp_path, texts, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, **texts))


def test_what_is_missing_is_named(tmp_path):
    root = write(tmp_path / "own")
    (root / "classnames.txt").unlink()
    with pytest.raises(UserError, match=r"there is no file .*classnames\.txt"):
        read(root)
    with pytest.raises(UserError, match=r"cannot read file:.*classnames\.txt: "):
        read(root.as_uri())
    with pytest.raises(UserError, match=r"there is no file .*train/nshards\.txt"):
        web_dataset.labelled(str(write(tmp_path / "other")), "train", np.asarray)


@settings(deadline=None, max_examples=100)
@given(
    content=st.binary(max_size=40)
    | st.tuples(st.lists(st.tuples(st.integers(0, 10239), st.integers(0, 255)), max_size=5), st.integers(0, 10240)).map(
        lambda each: bytes(dict(each[0]).get(i, byte) for i, byte in enumerate(shard(*SAMPLES)))[: each[1]]
    ),
    names=st.just(b"cat\ndog") | st.binary(max_size=20),
)
def test_any_shard_is_samples_or_a_user_error(tmp_path_factory, content, names):
    try:
        assert all(
            label in range(len(names))
            for _, label in read(write(tmp_path_factory.mktemp("any"), content, classnames=names))
        )
    except UserError as problem:
        assert "\n" not in str(problem)
