"""Reading shards: the samples of one task after the other, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.pictures import open_picture, picture_size
from polygen_stream.base.shard_members import shard_members
from polygen_stream.base.text_files import decode_text

IMAGE_EXTENSIONS, TEXT_EXTENSIONS = ("png", "jpg", "jpeg"), ("txt", "json")
FIELDS = {"task": int, "member": int, "polarity": str, "generator": str, "seed": int}


@dataclass(frozen=True)
class StoredSample:
    """One sample of a shard: an image and its caption.

    Args:
        where: shard and key, for messages.
        task_id: of the caption, in the run that rendered it.
        negative: whether the image shows the hard negative.
        text: what the image shows: the caption, or its hard negative.
        generator: index of the generator among those of this run.
        seed: of the image.
        data: the compressed image.
    """

    where: str
    task_id: int
    negative: bool
    text: str
    generator: int
    seed: int
    data: bytes

    def image(self, size: int) -> np.ndarray:
        """Decode the image: uint8 [size, size, 3].

        Raises:
            UserError: the data is no image, or one of another size.
        """
        width, height = picture_size(self.data, self.where)
        if (width, height) != (size, size):  # before it is decoded
            raise UserError(
                f"{self.where} is {width}x{height} pixels, but ring.image_size = {size}: set the shards' own size"
            )
        return np.asarray(open_picture(self.data, self.where))


def read_tasks(folder: Path, generators: Sequence[str]) -> Iterator[list[StoredSample]]:
    """Read the samples of each task, in the order of a folder's shards. Those of a task have to follow each other.

    Args:
        folder: of the shards.
        generators: names of the run's generators.

    Raises:
        UserError: a damaged shard, a sample without a field, a generator that the run does not have, or a
            task with two different captions; or the webdataset package is missing.
    """
    task: list[StoredSample] = []
    for sample in _samples(sorted(folder.glob("*.tar")), generators):
        if task and sample.task_id != task[-1].task_id:
            yield task
            task = []
        for other in task:
            if other.negative == sample.negative and other.text != sample.text:
                raise UserError(
                    f"{sample.where} has the caption {sample.text!r}, but {other.where} of the same task and polarity "
                    f"has {other.text!r}: a task has one caption, and one hard negative"
                )
        task.append(sample)
    if task:
        yield task


def _samples(shards: Sequence[Path], generators: Sequence[str]) -> Iterator[StoredSample]:
    index = {name: number for number, name in enumerate(generators)}
    for shard in shards:
        for sample in _files_by_key(shard):
            yield _stored(sample, index)


def _files_by_key(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield the files of each sample of a shard by their extension, with "__url__" and "__key__".

    Raises:
        UserError: the shard is no file that can be read, is damaged, or has a file of a sample twice, or a larger one
            than a sample has.
    """
    try:
        from webdataset.tariterators import group_by_keys
    except ImportError:
        raise UserError("shards need the webdataset package: pip install 'polygen-stream[export]'") from None
    if not shard.is_file():  # a pipe would be waited for
        raise UserError(f"{shard} is no file, or a link to none: move it away")
    try:
        with shard.open("rb") as stream:
            members = shard_members(stream, str(shard), IMAGE_EXTENSIONS, TEXT_EXTENSIONS)
            yield from group_by_keys({"fname": name, "data": data, "__url__": str(shard)} for name, data in members)
    except UserError:  # of a file that is too large
        raise
    except Exception as problem:  # tarfile and what decompresses have an error for each way in which a file is wrong
        why = getattr(problem, "strerror", None) or str(problem.args[0] if problem.args else problem)
        name, twice, _ = why.partition(": duplicate file name")  # group_by_keys says so
        if twice:
            raise UserError(f"{shard}: {name} comes twice in one sample: each sample has a key of its own") from None
        raise UserError(f"{shard} is damaged ({why}): move it away") from None


def _stored(sample: dict[str, Any], generators: dict[str, int]) -> StoredSample:
    where = f"{sample['__url__']}: sample {sample['__key__']}"
    extension = next((extension for extension in IMAGE_EXTENSIONS if extension in sample), None)
    missing = [name for name in ("txt", "json") if name not in sample]
    if extension is None or missing:
        raise UserError(
            f"{where} has no {missing[0] if missing else 'image (png, jpg)'}: a sample is an image (png, jpg), its txt "
            "and its json"
        )
    fields = _fields(sample["json"], where)
    if fields["generator"] not in generators:
        raise UserError(
            f"{where} was made by {fields['generator']}, which is not among generators.recipes = "
            f"{', '.join(generators)}: name all generators of the shards there"
        )
    text = decode_text(sample["txt"], f"{where}: its txt")
    if not text.strip():
        raise UserError(f"{where} has an empty caption: write what its image shows into its txt, or remove the sample")
    return StoredSample(
        where,
        fields["task"],
        fields["polarity"] == "negative",
        text,
        generators[fields["generator"]],
        fields["seed"],
        sample[extension],
    )


def _fields(data: bytes, where: str) -> dict[str, Any]:
    """Parse and check the JSON of a sample."""
    try:
        fields = json.loads(data)
        wrong = [name for name, type_ in FIELDS.items() if not isinstance(fields.get(name), type_)]
    except (ValueError, AttributeError, RecursionError):
        raise UserError(f"{where}: its json is no JSON object") from None
    if wrong or fields["polarity"] not in ("positive", "negative") or not 0 <= fields["seed"] < 2**64:
        raise UserError(
            f"{where}: its json has no {wrong[0] if wrong else 'polarity or seed'} that can be used; it needs task, "
            "member, polarity (positive, negative), generator and seed, as --record-shards and an export write them"
        )
    return fields
