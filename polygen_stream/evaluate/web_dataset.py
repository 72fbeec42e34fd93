"""WebDatasets for evaluation, as clip_benchmark lays them out, from a folder or a URL.

    ROOT/classnames.txt, zeroshot_classification_templates.txt     one a line; the number of a line is the label
    ROOT/dataset_type.txt                                          "retrieval" if the pictures have captions
    ROOT/SPLIT/nshards.txt, 0.tar, 1.tar, ...                      KEY.png (jpg, jpeg, webp) with KEY.cls or KEY.txt

The tar streams are opened by webdataset. Whatever cannot be used is named with its shard and key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from polygen_stream.base.errors import UserError
from polygen_stream.base.pictures import open_picture
from polygen_stream.base.shard_members import shard_members
from polygen_stream.base.text_files import decode_text, read_text
from polygen_stream.evaluate.class_folders import counted, listed
from polygen_stream.evaluate.prompts import TEMPLATES_FILE, parse_templates
from polygen_stream.evaluate.user_data import CaptionedImages, LabelledImages, Transform

IMAGE_EXTENSIONS, TEXT_EXTENSIONS = ("webp", "png", "jpg", "jpeg"), ("txt", "cls")
HUGGING_FACE = "https://huggingface.co/datasets"
TIMEOUT_S = 60
MAX_SHARDS = 100_000
BLOCK = 512  # bytes: a tar file ends with two blocks of zeros


class WebPictures(IterableDataset):
    """Samples of shards in order: (float32 [3, size, size], class), or (..., [caption, ...]) without classes.

    Args:
        shards: Paths or URLs.
        classes: How many there are; None for captions.
        transform: Of a picture.
    """

    def __init__(self, shards: Sequence[str], classes: int | None, transform: Transform) -> None:
        self.shards, self.classes, self.transform = shards, classes, transform

    def __iter__(self) -> Iterator[tuple[Tensor, object]]:
        worker = get_worker_info()
        shards = self.shards[worker.id :: worker.num_workers] if worker else self.shards
        for shard in shards:
            for sample in _samples(shard):
                where = f"{shard}: sample {sample.get('__key__')}"
                fields = {key.lstrip("."): value for key, value in sample.items()}
                extension = next((each for each in IMAGE_EXTENSIONS if each in fields), None)
                if extension is None:
                    raise UserError(f"{where} has no picture ({', '.join(IMAGE_EXTENSIONS)})")
                target = _captions(fields, where) if self.classes is None else _label(fields, where, self.classes)
                yield self.transform(open_picture(fields[extension], where)), target


def labelled(folder: str, split: str, transform: Transform) -> LabelledImages:
    """Open a WebDataset with classes. The shards are read later.

    Args:
        folder: Path or URL.
        split: "train" or "test".
        transform: Of a picture.

    Raises:
        UserError: A file is missing or cannot be used, or the pictures have several labels or captions.
    """
    kind = (_text(folder, "dataset_type.txt", optional=True) or "classification").strip().lower()
    if kind == "multilabel":
        raise UserError(f"{folder} has several labels per picture, which no task here scores")
    if kind == "retrieval":
        raise UserError(f"{folder} has captions and no classes, so it cannot be classified zero-shot; use retrieval")
    classes = _classes(_text(folder, "classnames.txt"), f"{folder}/classnames.txt")
    templates = parse_templates(_text(folder, TEMPLATES_FILE), f"{folder}/{TEMPLATES_FILE}")
    shards, read = _shards(folder, split)
    read = [*read, f"{counted(len(classes), 'class')}: {listed(classes)}"]
    return LabelledImages(WebPictures(shards, len(classes), transform), classes, templates, read)


def captioned(folder: str, split: str, transform: Transform) -> CaptionedImages:
    """Open a WebDataset with captions; see `labelled`."""
    kind = (_text(folder, "dataset_type.txt", optional=True) or "classification").strip().lower()
    if kind != "retrieval":
        raise UserError(f"{folder} has no captions: its dataset_type.txt does not say retrieval")
    shards, read = _shards(folder, split)
    return CaptionedImages(WebPictures(shards, None, transform), read)


def _classes(text: str, named: str) -> list[str]:
    names = [line.strip() for line in text.rstrip().split("\n")]
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{named}, line {number} is blank: the number of a line is the label of its class")
    if len(names) < 2:
        raise UserError(f"{named} names one class, and no other to tell it from")
    return names


def _shards(folder: str, split: str) -> tuple[list[str], list[str]]:
    text = _text(folder, f"{split}/nshards.txt").strip()
    number = _number(text)
    if not number or number > MAX_SHARDS:
        raise UserError(f"{folder}/{split}/nshards.txt says {text[:50]!r}, which is no number of shards")
    read = [f"{counted(number, 'shard')} of {folder}/{split}"]
    if "://" not in folder:
        there = len(list(Path(folder, split).glob("*.tar")))
        if there > number:
            read.append(f"left out {there - number} of {there} *.tar: nshards.txt says {text}")
    return [f"{_place(folder, 'resolve')}/{split}/{each}.tar" for each in range(number)], read


def _place(folder: str, kind: str) -> str:
    """Where the files of a folder are; on the Hugging Face hub, small ones ("raw") and stored ones ("resolve")."""
    if not folder.startswith(HUGGING_FACE):
        return folder
    *head, _, path = folder.split("/", 7)
    return "/".join([*head, kind, path])


def _text(folder: str, name: str, *, optional: bool = False) -> str:
    """Content of a file of the folder; an optional one that is not there is empty."""
    where = f"{_place(folder, 'raw')}/{name}"
    if "://" not in where:
        return "" if optional and not os.path.lexists(where) else read_text(Path(where), "file")
    try:
        with urlopen(where, timeout=TIMEOUT_S) as answer:
            return decode_text(answer.read(), where)
    except UserError:
        raise
    except Exception as problem:  # of the URL, the network, or what answers there
        if optional and _is_missing(problem):
            return ""
        raise UserError(f"cannot read {where}: {_one_line(problem)}") from None


def _is_missing(problem: Exception) -> bool:
    if isinstance(problem, HTTPError):
        return problem.code == 404
    return isinstance(problem, URLError) and isinstance(problem.reason, FileNotFoundError)


def _samples(shard: str) -> Iterator[dict[str, Any]]:
    try:
        from webdataset.gopen import gopen
        from webdataset.tariterators import group_by_keys
    except ImportError:
        raise UserError(f"{shard} is read by webdataset: pip install 'polygen-stream[evaluate]'") from None
    if "://" not in shard:
        _check_whole(Path(shard))
    try:
        with ExitStack() as stack:
            stream = gopen(shard)
            stack.callback(_close, stream)
            members = shard_members(stream, shard, IMAGE_EXTENSIONS, TEXT_EXTENSIONS)
            yield from group_by_keys({"fname": name, "data": data, "__url__": shard} for name, data in members)
    except UserError:  # of a file that is too large
        raise
    except Exception as problem:  # of tarfile, zlib, webdataset, or the command that fetches a URL
        raise UserError(f"cannot read the shard {shard}: {_one_line(problem)}; get it again") from None


def _close(stream: Any) -> None:
    with suppress(Exception):  # a command that fetches a URL, and was not read to its end
        stream.close()


def _check_whole(shard: Path) -> None:
    """Refuse a file that was cut between two samples, which tarfile takes for its end."""
    try:
        with shard.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - BLOCK))
            end = stream.read()
            stream.seek(0)
            packed = stream.read(BLOCK)[257:262] != b"ustar"
    except OSError as problem:
        raise UserError(f"cannot read the shard {shard}: {problem.strerror}") from None
    if not size:
        raise UserError(f"cannot read the shard {shard}: it is empty; get it again")
    if not packed and end.strip(b"\0"):
        raise UserError(f"cannot read the shard {shard}: it is cut short after {size} bytes; get it again")


def _label(fields: dict[str, Any], where: str, classes: int) -> int:
    if "cls" not in fields:
        raise UserError(f"{where} has no cls, the number of its class")
    text = fields["cls"].decode(errors="replace").strip()
    number = _number(text)
    if number is None:
        raise UserError(f"{where}: its cls is {text[:50]!r}, which is no number of a class")
    if number >= classes:
        raise UserError(f"{where}: its cls is {text[:50]}, but classnames.txt has the classes 0 to {classes - 1}")
    return number


def _number(text: str) -> int | None:
    """Return the number that ASCII digits write; None for anything else, and for more digits than a count here has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _captions(fields: dict[str, Any], where: str) -> list[str]:
    if "txt" not in fields:
        raise UserError(f"{where} has no txt, its captions")
    captions = [line.strip() for line in decode_text(fields["txt"], f"{where}: its txt").split("\n") if line.strip()]
    if not captions:
        raise UserError(f"{where}: its txt is empty")
    return captions


def _one_line(problem: Exception) -> str:
    text = str(problem.args[0]) if problem.args else ""
    return " ".join(text.partition(" @ <")[0].split()) or type(problem).__name__
