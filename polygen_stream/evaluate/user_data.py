"""A user's own pictures: folders with one subfolder per class, TSV files of captions, MNIST's idx files."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from polygen_stream.base.errors import UserError
from polygen_stream.base.pictures import open_picture

Transform = Callable[[Image.Image], Tensor]

TEMPLATES = ("a photo of a {c}.",)  # where the folder has none
TEMPLATES_FILE = "zeroshot_classification_templates.txt"  # as clip_benchmark's WebDatasets have it, one a line


@dataclass(frozen=True)
class LabelledImages:
    """Pictures with one class each. `dataset` gives (float32 [3, size, size], index of the class)."""

    dataset: Dataset
    classes: Sequence[str]
    templates: Sequence[str] | dict[str, list[str]]  # "{c}" stands for the class; or the prompts of every class


@dataclass(frozen=True)
class CaptionedImages:
    """Pictures with at least one caption each. `dataset` gives (float32 [3, size, size], [caption, ...])."""

    dataset: Dataset


def image_folder(folder: Path, split: str, transform: Transform) -> LabelledImages:
    """FOLDER/SPLIT/CLASS/picture, or FOLDER/CLASS/picture where the whole folder is for testing.

    A class is called as its folder, with spaces for underscores; prompts can stand in FOLDER/TEMPLATES_FILE.

    Raises:
        UserError: no such split, or no pictures.
    """
    templates = folder / TEMPLATES_FILE
    where = folder / split
    if not where.is_dir():
        if split != "test" or (folder / "train").is_dir():
            raise UserError(f"{folder} has no folder {split}/ with one folder of pictures per class")
        where = folder
    try:
        dataset = ImageFolder(str(where), transform, loader=_open)
    except FileNotFoundError as problem:
        raise UserError(f"{where} is no folder of one folder of pictures per class: {problem}") from None
    lines = templates.read_text(encoding="utf-8").splitlines() if templates.exists() else TEMPLATES
    return LabelledImages(
        dataset, [name.replace("_", " ") for name in dataset.classes], [t for t in lines if t.strip()]
    )


class ImageFiles(Dataset):
    """Picture files with a target each; a file that is missing or no picture is a UserError that names it."""

    def __init__(self, files: Sequence[Path], targets: Sequence[object], transform: Transform) -> None:
        self.files, self.targets, self.transform = files, targets, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, object]:
        return self.transform(_open(self.files[index])), self.targets[index]


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a TSV file whose first line names at least these columns.

    Raises:
        UserError: no such file, another header, or a row that is cut short.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"there is no file {file}") from None
    missing = [c for c in columns if c not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"{file}: the first line names the columns {', '.join(reader.fieldnames or ()) or 'nothing'}, and"
            f" {', '.join(missing)} is missing; a tab stands between columns"
        )
    for number, row in enumerate(rows, start=2):
        if not all(row[c] for c in columns):
            raise UserError(f"{file}, line {number}: one of {', '.join(columns)} is empty")
    if not rows:
        raise UserError(f"{file} has no rows below its first line")
    return rows


def caption_table(file: Path, transform: Transform) -> CaptionedImages:
    """A TSV of (image, caption); paths are relative to the file, and rows of one image are its captions."""
    captions: dict[str, list[str]] = {}
    for row in read_table(file, ("image", "caption")):
        captions.setdefault(row["image"], []).append(row["caption"])
    return CaptionedImages(ImageFiles([file.parent / name for name in captions], list(captions.values()), transform))


class IdxImages(Dataset):
    """Grey pictures and labels in MNIST's idx format."""

    def __init__(self, pictures: np.ndarray, labels: np.ndarray, transform: Transform) -> None:
        self.pictures, self.labels, self.transform = pictures, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[index]).convert("RGB")), int(self.labels[index])


def idx_images(folder: Path, split: str, transform: Transform) -> IdxImages:
    """Files train-* or t10k-*, plain or gzipped, in the folder itself or anywhere below it (torchvision: */raw).

    Raises:
        UserError: a file is missing, cut short, or of another format.
    """
    prefix = "train" if split == "train" else "t10k"
    parts = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    pictures, labels = (_read_idx(_find(folder, part)) for part in parts)
    if len(pictures) != len(labels):
        raise UserError(f"{folder}: {len(pictures)} pictures but {len(labels)} labels in the {prefix} files")
    return IdxImages(pictures, labels, transform)


def _find(folder: Path, name: str) -> Path:
    found = sorted(path for path in folder.rglob(f"{name}*") if path.name in (name, f"{name}.gz"))
    if not found:
        raise UserError(f"there is no {name}[.gz] in {folder} or below it")
    return found[0]


def _read_idx(file: Path) -> np.ndarray:
    """uint8 array of an idx file: bytes 0, 0, 8 (= uint8), dimensions, their sizes (big-endian), the data."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as problem:
        raise UserError(f"cannot read {file}: {problem}") from None
    if data[:3] != b"\0\0\x08" or len(data) < 4:
        raise UserError(f"{file} is no idx file of uint8")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if len(values) != shape.prod():
        raise UserError(f"{file} holds {len(values)} values, its header says {shape.prod()}: it is cut short")
    return values.reshape(shape)


def _open(file: Path | str) -> Image.Image:
    return open_picture(Path(file), str(file))
