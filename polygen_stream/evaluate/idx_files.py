"""Grey pictures and labels in MNIST's idx format."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.user_data import Transform


class IdxImages(Dataset):
    """Pictures uint8 [n, height, width] with labels uint8 [n]."""

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
    pictures = _read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"), 3)
    labels = _read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"), 1)
    if len(pictures) != len(labels):
        raise UserError(f"{folder}: {len(pictures)} pictures but {len(labels)} labels in the {prefix} files")
    return IdxImages(pictures, labels, transform)


def _find(folder: Path, name: str) -> Path:
    found = sorted(path for path in folder.rglob(f"{name}*") if path.name in (name, f"{name}.gz"))
    if not found:
        raise UserError(f"there is no {name}[.gz] in {folder} or below it")
    return found[0]


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """uint8 array of an idx file: bytes 0, 0, 8 (= uint8), dimensions, their sizes (big-endian), the data."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as problem:
        raise UserError(f"cannot read {file}: {problem}") from None
    start = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(f"{file} is no idx file of uint8 with {dimensions} dimensions")
    if len(data) < start:
        raise UserError(f"{file} is cut short in its header")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if len(data) - start != math.prod(shape):
        raise UserError(f"{file} holds {len(data) - start} values, its header says {math.prod(shape)}: it is cut short")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
