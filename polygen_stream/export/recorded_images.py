"""Images that a run's recorder has written, found by what they are of: a resumed run does not render them again.

Shards are lossless, so an image from them is the one that was rendered, bit for bit. The shard that is being written is
read too; what a killed recorder left half written in it is not there.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.base.pictures import open_picture, picture_size
from polygen_stream.base.shard_members import MAX_PICTURE, MAX_TEXT
from polygen_stream.export.shards import WRITING, task_offsets
from polygen_stream.ring import Claim
from polygen_stream.ring.records import Polarity


class RecordedImages:
    """The images in a folder of shards. It does not see shards that are begun later.

    Args:
        folder: of the shards; it need not exist.
        generators: names, by the index in claims.
        shape: (H, W, 3) of the run's images.
    """

    def __init__(self, folder: Path, generators: Sequence[str], shape: tuple[int, int, int]) -> None:
        self._generators, self._shape = tuple(generators), shape
        self._shards = [*sorted(folder.glob("*.tar")), *sorted(folder.glob(f"*.tar{WRITING}"))]
        self._places: dict[int, tuple[int, int]] = {}  # task -> number of its shard, byte offset of its first sample
        for number, shard in enumerate(self._shards):
            offsets, _ = task_offsets(shard, truncated=True)
            self._places |= {task: (number, offset) for task, offset in offsets.items()}

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self._places)

    def read(self, claim: Claim) -> np.ndarray | None:
        """Return the image that a claim asks for, uint8 [H, W, 3]; None if it is not there, or damaged."""
        place = self._places.get(claim.task_id)
        if place is None:
            return None
        try:
            found = self._files(claim, *place)
            about = json.loads(found["json"])
            wanted = {
                "generator": self._generators[claim.generator],
                "seed": claim.seed,
                "polarity": "negative" if claim.polarity == Polarity.NEGATIVE else "positive",
            }
            where = f"{self._shards[place[0]].name}: {claim.task_id}-{claim.member}"
            size = picture_size(found["png"], where)
            if any(about.get(name) != value for name, value in wanted.items()) or size != self._shape[1::-1]:
                return None
            return np.asarray(open_picture(found["png"], where))
        except (UserError, tarfile.TarError, OSError, ValueError, KeyError, AttributeError):
            return None  # it is rendered, like one that was never recorded

    def _files(self, claim: Claim, shard: int, offset: int) -> dict[str, bytes]:
        """Return the files of a claim's sample by their extension, as far as they are there."""
        path, found = self._shards[shard], {}
        if not path.exists():  # the recorder has completed it since
            path = path.with_name(path.name.removesuffix(WRITING))
        with path.open("rb") as file:
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for header in tar:
                    key, _, extension = header.name.partition(".")
                    task, _, member = key.partition("-")
                    if int(task) != claim.task_id:
                        break
                    most = MAX_PICTURE if extension == "png" else MAX_TEXT
                    if int(member) == claim.member and header.isreg() and header.size <= most:
                        content = tar.extractfile(header)
                        assert content is not None, "it is a regular file"
                        found[extension] = content.read()
        return found
