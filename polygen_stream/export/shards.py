"""Writing WebDataset shards, as open_clip's training script reads them.

    DIR/000000.tar ...     samples TASK-MEMBER.png, .txt, .json
    DIR/sizes.json         number of samples of each shard, from which open_clip knows the size of the whole

A sample is an image and its caption; an image of a hard negative has the negative caption. The JSON has its task,
member, polarity, generator and seed. The samples of a task follow each other and lie in one shard.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import flush
from polygen_stream.base.json_files import write_json

SIZES = "sizes.json"
WRITING = ".writing"  # suffix of a shard that is not complete


@dataclass(frozen=True)
class ShardSample:
    """One image of a task.

    Args:
        task_id: of the caption.
        member: number of the image among the task's, positives first.
        negative: whether the image shows the hard negative.
        text: what the image shows.
        generator: index of the generator.
        seed: of the image.
    """

    task_id: int
    member: int
    negative: bool
    text: str
    generator: int
    seed: int


class ShardWriter:
    """Writes samples into a folder of shards and continues where an earlier writer of that folder ended.

    A shard gets its name once it is complete and on disk. What a killed writer had in its last shard is kept, except
    for the last task, which may be incomplete.

    Args:
        folder: of the shards; made if it does not exist.
        generators: names, by the index in samples.
        per_shard: a shard ends with the task that brings it to as many samples.

    Attributes:
        tasks: ids of the tasks that the shards have.

    Raises:
        UserError: the webdataset package is missing, or a shard is damaged.
    """

    def __init__(self, folder: Path, generators: Sequence[str], per_shard: int) -> None:
        try:
            from webdataset import TarWriter
        except ImportError:
            raise UserError("shards need the webdataset package: pip install 'polygen-stream[export]'") from None
        self._tar_writer = TarWriter
        self._folder, self._generators, self._per_shard = folder, tuple(generators), per_shard
        folder.mkdir(parents=True, exist_ok=True)
        self.tasks: set[int] = set()
        self._sizes: dict[str, int] = {}  # samples of each complete shard
        for shard in sorted(folder.glob("*.tar")):
            tasks, samples = task_offsets(shard)
            self.tasks |= tasks.keys()
            self._sizes[shard.name] = samples
        self._file: BinaryIO | None = None
        self._shard = f"{1 + max((int(Path(name).stem) for name in self._sizes), default=-1):06d}.tar"
        self._size = 0
        for unfinished in folder.glob(f"*{WRITING}"):
            self._resume(unfinished)

    @property
    def samples(self) -> int:
        """Number of samples written, those of earlier writers included."""
        return sum(self._sizes.values()) + self._size

    @property
    def shards(self) -> int:
        """Number of complete shards."""
        return len(self._sizes)

    def write(self, samples: Sequence[ShardSample], images: Iterable[np.ndarray]) -> None:
        """Add the samples of one task.

        Args:
            samples: n samples.
            images: n images, uint8 [H, W, 3].
        """
        if self._file is None:
            self._open((self._folder / (self._shard + WRITING)).open("xb"))
        for sample, image in zip(samples, images, strict=True):
            about = {
                "task": sample.task_id,
                "member": sample.member,
                "polarity": "negative" if sample.negative else "positive",
                "generator": self._generators[sample.generator],
                "seed": sample.seed,
            }
            self._tar.write(
                {
                    "__key__": f"{sample.task_id:09d}-{sample.member:04d}",
                    "png": _png(image),
                    "txt": sample.text,
                    "json": json.dumps(about).encode(),
                }
            )
        self._size += len(samples)
        self.tasks.update(sample.task_id for sample in samples)
        if self._size >= self._per_shard:
            self.publish()

    def publish(self) -> None:
        """Complete the shard that is being written, if there is one."""
        if self._file is None:
            return
        self._tar.close()
        self._file.close()
        self._file = None
        writing = self._folder / (self._shard + WRITING)
        flush(writing)
        writing.rename(self._folder / self._shard)
        self._sizes[self._shard], self._size = self._size, 0
        self._shard = f"{int(Path(self._shard).stem) + 1:06d}.tar"
        write_json(self._folder / SIZES, self._sizes, indent=1)
        flush(self._folder)

    def _open(self, file: BinaryIO) -> None:
        # mtime: a time in fractions of a second would cost two more headers per file; and equal samples make equal
        # shards if they have none.
        self._file, self._tar = file, self._tar_writer(file, mtime=0)

    def _resume(self, unfinished: Path) -> None:
        """Continue a shard that a killed writer left, without its last task."""
        offsets, _ = task_offsets(unfinished, truncated=True)
        if len(offsets) < 2 or unfinished.name != self._shard + WRITING:
            unfinished.unlink()
            return
        *complete, last = offsets
        os.truncate(unfinished, offsets[last])
        _, self._size = task_offsets(unfinished, truncated=True)
        self.tasks |= set(complete)
        file = unfinished.open("r+b")
        file.seek(0, os.SEEK_END)
        self._open(file)


def task_offsets(shard: Path, truncated: bool = False) -> tuple[dict[int, int], int]:
    """Return the offset in bytes of each task in a shard, and the number of its images.

    Args:
        shard: the file.
        truncated: whether the file may end anywhere.

    Raises:
        UserError: the file ends too early, or has something else in it.
    """
    offsets: dict[int, int] = {}
    images = 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                task, _, _ = member.name.partition("-")
                offsets.setdefault(int(task), member.offset)
                images += member.name.endswith(".png")
    except (tarfile.TarError, ValueError, OSError) as problem:
        if not truncated:
            raise UserError(f"{shard} is no shard of a run, or damaged ({problem}): move it away") from None
    return offsets, images


def _png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "png")
    return data.getvalue()
