"""Where the images of a ring lie: in its shared memory, or in a file (pixel_file.py).

Who may read or write a slot is decided under the mutex by those who call; here bytes are copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from polygen_stream.ring.checksum import checksums, write_images
from polygen_stream.ring.layout import RingColumns


class Pixels(Protocol):
    """The images of a ring, by slot."""

    def write(self, slots: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Store images, uint8 [n, H, W, 3], in distinct slots, int64 [n]. Return their checksums, int64 [n].

        The ring's table says what each image is of.
        """
        ...

    def read(self, slots: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy the images of slots, int64 [n], which have to be in range: uint8 [n, H, W, 3], into `out` if given."""
        ...

    def close(self) -> None:
        """Give up what is held open."""
        ...


class MemoryPixels:
    """The images in the payload column of a mapped ring."""

    def __init__(self, columns: RingColumns) -> None:
        self._columns = columns

    def write(self, slots: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Store images in shared memory."""
        return write_images(self._columns.payload, slots, images)

    def read(self, slots: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy images out of shared memory."""
        # mode "clip" lets take write straight into `out`
        return np.take(self._columns.payload, slots, axis=0, out=out, mode="clip")

    def close(self) -> None:
        """Drop the view of the mapping."""
        del self._columns


def read_intact(pixels: Pixels, slots: Sequence[int], written: np.ndarray | Mapping[int, int]) -> dict[int, np.ndarray]:
    """Copy images that may be overwritten meanwhile: of groups that are not leased, outside the mutex.

    Args:
        pixels: of the ring.
        slots: which images.
        written: checksum of each slot at the instant that the images are wanted of, e.g. a copy of slot_checksum.

    Returns:
        {slot: image, uint8 [H, W, 3]}, without those that were overwritten since that instant.
    """
    copies = {slot: pixels.read(np.array([slot])) for slot in slots}  # [1, H, W, 3]
    return {slot: copy[0] for slot, copy in copies.items() if checksums(copy)[0] == written[slot]}
