"""Folders of classes as people have them: which labels they give, what is left out, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.class_folders import class_pictures
from polygen_stream.evaluate.user_data import image_folder


def put(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file) if file.suffix == ".png" else file.write_bytes(b"x")
    return root


def test_a_label_means_the_same_class_in_every_split(tmp_path):
    put(tmp_path, *(f"train/{name}/0.png" for name in ("apple", "banana", "cherry")))
    put(tmp_path, "test/banana/1.png", "test/cherry/1.png")
    known, asked = (class_pictures(tmp_path, split) for split in ("train", "test"))
    assert known.classes == asked.classes == ["apple", "banana", "cherry"]
    assert (known.labels, asked.labels) == ([0, 1, 2], [1, 2])
    assert asked.read == [
        f"2 pictures of 2 classes in {tmp_path}/test: banana, cherry",
        f"no picture of apple, which other splits of {tmp_path} have",
    ]


def test_accents_may_be_composed_in_one_split_and_not_in_the_other(tmp_path):
    put(tmp_path, "train/caf\u00e9/0.png", "train/bar/0.png", "test/cafe\u0301/1.png")
    assert class_pictures(tmp_path, "test").labels == [1]


def test_what_is_hidden_or_the_systems_is_no_class(tmp_path):
    put(
        tmp_path, "cat/0.png", "cat/.ipynb_checkpoints/0-checkpoint.png", "cat/._0.png", "cat/notes.txt", "dog/0.png",
        ".git/x.png", "__MACOSX/cat/0.png", "@eaDir/x.png", ".DS_Store", "readme.md",
    )  # fmt: skip
    found = class_pictures(tmp_path, "test")
    assert (found.classes, len(found.files)) == (["cat", "dog"], 2)
    said = "; ".join(found.read)
    assert "left out folders that are hidden or the system's: .git, .ipynb_checkpoints, @eaDir, __MACOSX" in said
    assert "left out 2 hidden files: .DS_Store, ._0.png" in said
    assert "left out 2 files that are not called .jpg" in said and "readme.md, notes.txt" in said


def test_pictures_are_in_torchvisions_order(tmp_path):
    from torchvision.datasets import ImageFolder

    put(tmp_path, "b/0.png", "b/sub/1.png", "b/sub-2/1.png", "b/z.png", "a/10.png", "a/9.png")
    theirs = ImageFolder(str(tmp_path))
    ours = class_pictures(tmp_path, "test")
    assert [(str(file), label) for file, label in zip(ours.files, ours.labels, strict=True)] == theirs.samples


def test_links_may_lead_in_circles(tmp_path):
    put(tmp_path, "cat/0.png", "dog/0.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "bird").symlink_to(tmp_path / "dog")
    assert len(class_pictures(tmp_path, "test").files) == 3


def test_train_can_be_a_vehicle(tmp_path):
    put(tmp_path, "bus/0.png", "train/0.png")
    assert class_pictures(tmp_path, "test").classes == ["bus", "train"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["val/cat/0.png", "val/dog/0.png"], r"no folder test/ .*, but val/: rename that to test/, or name .*/val"),
        (["Train/cat/0.png", "Train/dog/0.png", "Test/cat/0.png"], r"no folder test/ .*, but Test/"),
        (["train/cat/0.png", "train/dog/0.png", "valid/cat/0.png"], r"no folder test/ .*, but valid/"),
        (["pets/cat/0.png", "pets/dog/0.png"], r"one class, pets, .*; if its folders are the classes, name .*/pets"),
        (["cat/0.png"], r"has one class, cat, and no other to tell it from: add one$"),
        (["train/0.png", "test/0.png"], r"has pictures in test/, train/, but no folders of classes in there"),
        (["0.png"], r"there is no folder in it"),
        (["hot_dog/0.png", "hot dog/0.png"], r"hot dog and hot_dog are two classes that are called the same"),
        (["train/Cat/0.png", "train/dog/0.png", "test/cat/0.png"], r"Cat and cat are two classes that are"),
        (["cat/0.png", "dog/readme.md"], r"dog has no picture \(\.jpg"),
        (["_/0.png", "dog/0.png"], r"a folder called '_', which names no class"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        class_pictures(put(tmp_path, *files), "test")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    put(tmp_path, "cat/0.png")
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(UserError, match=r"a folder whose name is not UTF-8, b'caf\\xe9'"):
        class_pictures(tmp_path, "test")


NAMES = st.sampled_from(
    ["cat", "Cat", "dog", "hot_dog", "hot dog", "train", "test", "val", "Test", ".git", "__MACOSX", "_", "x.png"]
)  # fmt: skip
FILES = st.sampled_from(["0.png", "1.tif", "a.txt", ".0.png"])
PICTURE = (np.indices((6, 6)).sum(0) * 20).astype(np.uint8)


@settings(deadline=None, max_examples=300)
@given(
    files=st.lists(st.tuples(st.lists(NAMES, max_size=3), FILES), max_size=6),
    content=st.none() | st.binary(max_size=60),
    prompts=st.none() | st.binary(max_size=30) | st.text("a{}c!: \n", max_size=20).map(str.encode),
    split=st.sampled_from(["train", "test"]),
)  # fmt: skip
def test_any_folder_is_a_data_set_or_a_user_error(tmp_path_factory, files, content, prompts, split):
    root = tmp_path_factory.mktemp("any")
    for folders, name in files:
        try:
            (root.joinpath(*folders)).mkdir(parents=True, exist_ok=True)
            file = root.joinpath(*folders, name)
            Image.fromarray(PICTURE).save(file) if content is None else file.write_bytes(content)
        except (OSError, ValueError):  # a file is where the folder should be, or no name of a picture
            continue
    if prompts is not None:
        (root / "zeroshot_classification_templates.txt").write_bytes(prompts)
    try:
        found = image_folder(root, split, np.asarray)
        for index in range(len(found.dataset)):
            picture, label = found.dataset[index]
            assert picture.shape[2] == 3 and 0 <= label < len(found.classes)
        texts = {tuple(template.format(c=name) for template in found.templates) for name in found.classes}
        assert len(texts) == len(found.classes)
    except UserError as problem:
        assert "\n" not in str(problem)
