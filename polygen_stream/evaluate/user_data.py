"""A user's own pictures as data sets: folders with one subfolder per class, and tables of captions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from polygen_stream.base.pictures import open_picture
from polygen_stream.evaluate.class_folders import class_pictures
from polygen_stream.evaluate.prompts import TEMPLATES, TEMPLATES_FILE, read_templates
from polygen_stream.evaluate.tables import read_table

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class LabelledImages:
    """Pictures with one class each. `dataset` gives (float32 [3, size, size], index of the class)."""

    dataset: Dataset
    classes: Sequence[str]
    templates: Sequence[str] | dict[str, list[str]]  # "{c}" stands for the class; or the prompts of every class
    read: list[str] = field(default_factory=list)  # what was read of a user's data and what was left out


@dataclass(frozen=True)
class CaptionedImages:
    """Pictures with at least one caption each. `dataset` gives (float32 [3, size, size], [caption, ...])."""

    dataset: Dataset
    read: list[str] = field(default_factory=list)


def image_folder(folder: Path, split: str, transform: Transform) -> LabelledImages:
    """FOLDER/SPLIT/CLASS/picture, or FOLDER/CLASS/picture where the whole folder is for testing.

    A class is called as its folder, with spaces for underscores; prompts can stand in FOLDER/TEMPLATES_FILE.

    Raises:
        UserError: no such split, a class without pictures, fewer than two classes, or prompts that cannot be used.
    """
    file = folder / TEMPLATES_FILE
    templates = read_templates(file) if os.path.lexists(file) else list(TEMPLATES)
    found = class_pictures(folder, split)
    return LabelledImages(ImageFiles(found.files, found.labels, transform), found.classes, templates, found.read)


class ImageFiles(Dataset):
    """Picture files with a target each; a file that is missing or no picture is a UserError that names it."""

    def __init__(self, files: Sequence[Path], targets: Sequence[object], transform: Transform) -> None:
        self.files, self.targets, self.transform = files, targets, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, object]:
        return self.transform(_open(self.files[index])), self.targets[index]


def caption_table(file: Path, transform: Transform) -> CaptionedImages:
    """A table of (image, caption); paths are relative to the file, and rows of one image are its captions.

    Raises:
        UserError: the table cannot be used, or a picture is not there.
    """
    table = read_table(file, ("image", "caption"))
    captions: dict[Path, list[str]] = {}
    for picture, row in zip(table.pictures("image"), table.rows, strict=True):
        captions.setdefault(picture, []).append(row["caption"])
    read = [*table.read, f"{len(captions)} pictures"]
    return CaptionedImages(ImageFiles(list(captions), list(captions.values()), transform), read)


def _open(file: Path | str) -> Image.Image:
    return open_picture(Path(file), str(file))
