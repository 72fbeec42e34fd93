"""WebDataset shards, as open_clip's training script reads them.

    DIR/000000.tar ...     samples TASK-MEMBER.png, .txt, .json
    DIR/sizes.json         samples of each shard, by which open_clip knows the size of the whole

A sample is a picture and its caption; a picture of a hard negative has the negative caption. The JSON says what it is:
task, member, polarity, generator, seed. The samples of a task follow each other and lie in one shard.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
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
    """One picture of a task: `member` counts the task's, its positives first."""

    task_id: int
    member: int
    negative: bool
    text: str
    generator: int
    seed: int


class ShardWriter:
    """Writes samples into a folder of shards and goes on where an earlier writer of that folder ended.

    A shard has its name once it is complete, and is on disk then. What a writer that was killed had in its last shard
    is kept, up to the last task, which may be half there.

    Args:
        generators: names, by the index in samples.
        per_shard: a shard ends with the task that brings it to so many samples.

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
        self.tasks: set[int] = set()  # that the shards have
        self._sizes: dict[str, int] = {}
        for shard in sorted(folder.glob("*.tar")):
            tasks, samples = _contents(shard)
            self.tasks |= tasks.keys()
            self._sizes[shard.name] = samples
        self._file: BinaryIO | None = None
        self._shard = f"{1 + max((int(Path(name).stem) for name in self._sizes), default=-1):06d}.tar"
        self._size = 0
        for left in folder.glob(f"*{WRITING}"):
            self._take_up(left)

    @property
    def samples(self) -> int:
        return sum(self._sizes.values()) + self._size

    @property
    def shards(self) -> int:
        """Complete ones."""
        return len(self._sizes)

    def write(self, samples: Sequence[ShardSample], images: Sequence[np.ndarray]) -> None:
        """Adds the samples of one task, whose pictures are uint8 [H, W, 3]."""
        if self._file is None:
            self._open((self._folder / (self._shard + WRITING)).open("xb"))
        for sample, image in zip(samples, images, strict=True):
            what = {
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
                    "json": json.dumps(what).encode(),
                }
            )
        self._size += len(samples)
        self.tasks.update(sample.task_id for sample in samples)
        if self._size >= self._per_shard:
            self.publish()

    def publish(self) -> None:
        """Ends the shard that is being written, if there is one."""
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
        # A time in fractions of a second would cost two more headers per file; without any, equal samples make equal
        # shards.
        self._file, self._tar = file, self._tar_writer(file, mtime=0)

    def _take_up(self, left: Path) -> None:
        """Goes on with a shard that a killed writer left, without its last task."""
        starts, _ = _contents(left, torn=True)
        if len(starts) < 2 or left.name != self._shard + WRITING:
            left.unlink()
            return
        *whole, last = starts
        os.truncate(left, starts[last])
        _, self._size = _contents(left, torn=True)
        self.tasks |= set(whole)
        file = left.open("r+b")
        file.seek(0, os.SEEK_END)
        self._open(file)


def _contents(shard: Path, torn: bool = False) -> tuple[dict[int, int], int]:
    """Where in a shard each task begins, in bytes; and how many pictures it has. torn: it may break off anywhere.

    Raises:
        UserError: it breaks off, or has something else in it.
    """
    starts: dict[int, int] = {}
    pictures = 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                task, _, _ = member.name.partition("-")
                starts.setdefault(int(task), member.offset)
                pictures += member.name.endswith(".png")
    except (tarfile.TarError, ValueError) as problem:
        if not torn:
            raise UserError(f"{shard} is no shard of a run, or damaged ({problem}): move it away") from None
    return starts, pictures


def _png(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    return data.getvalue()
