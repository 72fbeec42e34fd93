"""A ring with its images in a file, beside a plain loop of pread and pwrite over a file of the same size.

Both do the same work in turns, in one process: read a batch of images from random places, write some to random places.
The ring's is a draw, its read, and new captions that take the room of old ones; so it also picks, leases, evicts and
sums. For a figure of the disk and not of the page cache the files have to be larger than the memory that the process
may use, e.g. under `systemd-run --user --scope -p MemoryMax=2G`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.bench.ring.benchmark import machine
from polygen_stream.bench.statistics import summarise
from polygen_stream.ring import DrawRequest, Kind, Member, Ring, RingSpec, memory
from polygen_stream.ring.pixel_file import file_bytes

SIDE = 256
IMAGE_BYTES = SIDE * SIDE * 3
PER_CAPTION = 4
DRAWN, NEW = 64, 16  # captions of a round
TIMEOUT_S = 600.0


def bench_ring_disk(folder: Path, gib: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a ring with `gib` GiB of images in a file in `folder`.

    Returns:
        Ready for JSON: images_per_s of both by name, of_plain (their ratio, round by round), gib, memory_gib (what the
        process may use, page cache included) and machine. A measurement is {"median", "spread", "n"}.

    Raises:
        UserError: the folder is missing, or has too little space.
    """
    slots = int(gib * 2**30 / IMAGE_BYTES) // PER_CAPTION * PER_CAPTION
    spec = RingSpec(
        slots=slots,
        image_shape=(SIDE, SIDE, 3),
        groups=slots // PER_CAPTION,
        members=PER_CAPTION,
        caption_bytes=32,
        generators=("a",),
        seed=0,
        storage=str(folder / f"bench-{os.getpid()}.ring"),
    )
    plain = folder / f"bench-{os.getpid()}.plain"
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give one on the disk to measure")
    free = shutil.disk_usage(folder).free
    if free < 2 * file_bytes(spec):
        raise UserError(
            f"two files of {file_bytes(spec) / 2**30:.1f} GiB do not fit {folder}, which has {free / 2**30:.1f} GiB "
            "free: lower --gib or choose another folder"
        )
    room, source = memory.available_bytes()
    try:
        with closing(Ring.create(spec)) as ring, plain.open("w+b", buffering=0) as file:
            say(f"filling two files of {gib:g} GiB in {folder}; {room / 2**30:.1f} GiB of memory ({source})")
            ours, theirs = _RingLoop(ring), _PlainLoop(file.fileno(), slots)
            ours.fill()
            theirs.fill()
            os.sync()
            taken: dict[str, list[float]] = {"ring": [], "plain": []}
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                for name, loop in (("ring", ours), ("plain", theirs)):
                    began = time.perf_counter()
                    loop.round()
                    taken[name].append(time.perf_counter() - began)
    finally:
        Path(spec.storage).unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
    moved, seconds = (DRAWN + NEW) * PER_CAPTION, {name: np.array(each) for name, each in taken.items()}
    return {
        "machine": machine(),
        "gib": gib,
        "memory_gib": room / 2**30,
        "memory_limit": source,
        "images_per_round": {"read": DRAWN * PER_CAPTION, "written": NEW * PER_CAPTION},
        "images_per_s": {name: summarise(moved / each) for name, each in seconds.items()},
        "of_plain": summarise(seconds["plain"] / seconds["ring"]),
    }


class _RingLoop:
    """Draws, and new captions in the place of drawn ones."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._images = np.random.default_rng(0).integers(0, 256, (NEW * PER_CAPTION, SIDE, SIDE, 3), np.uint8)
        self._out = np.empty((DRAWN * PER_CAPTION, SIDE, SIDE, 3), np.uint8)
        self._task = self._step = 0
        ring.register("bench", "bench")

    def fill(self) -> None:
        """Fill the ring."""
        while self._task < self._ring.spec.groups:
            self._open(min(NEW, self._ring.spec.groups - self._task))

    def _open(self, captions: int) -> None:
        for _ in range(captions):
            members = [Member(0, 0, place) for place in range(PER_CAPTION)]
            self._ring.open_group(self._task, Kind.PLAIN, f"caption {self._task}", None, members, TIMEOUT_S)
            self._task += 1
        claims = self._ring.claim([0], captions * PER_CAPTION)
        self._ring.commit(claims, self._images[: len(claims)])

    def round(self) -> None:
        """Draw and read a batch, and put new captions in."""
        draw = self._ring.draw(DrawRequest(self._step, DRAWN, 0), TIMEOUT_S)
        self._ring.read([slot for group in draw.groups for slot in group.positive_slots], self._out)
        self._ring.release(draw)
        self._step += 1
        self._open(NEW)


class _PlainLoop:
    """As many images of a file, at random places."""

    def __init__(self, fd: int, slots: int) -> None:
        self._fd, self._slots = fd, slots
        self._random = np.random.default_rng(1)
        self._image = self._random.integers(0, 256, IMAGE_BYTES, np.uint8)
        self._out = np.empty((DRAWN * PER_CAPTION, IMAGE_BYTES), np.uint8)

    def fill(self) -> None:
        """Write the whole file."""
        for slot in range(self._slots):
            os.pwrite(self._fd, self._image.data, slot * IMAGE_BYTES)

    def round(self) -> None:
        """Read a batch, and write as many images as the ring does."""
        for row, slot in enumerate(self._places(DRAWN)):
            os.preadv(self._fd, [self._out[row].data], slot * IMAGE_BYTES)
        for slot in self._places(NEW):
            os.pwrite(self._fd, self._image.data, slot * IMAGE_BYTES)

    def _places(self, captions: int) -> list[int]:
        return self._random.choice(self._slots, captions * PER_CAPTION, replace=False).tolist()


def markdown(result: dict[str, Any]) -> str:
    """Return the measurement as a Markdown table."""
    lines = [
        f"{result['gib']:g} GiB of images of {SIDE} x {SIDE}, {result['memory_gib']:.1f} GiB of memory "
        f"({result['memory_limit']}); a round reads {result['images_per_round']['read']} images and writes "
        f"{result['images_per_round']['written']}",
        "",
        "| | images/s | MB/s |",
        "| --- | ---: | ---: |",
    ]
    for name, rate in result["images_per_s"].items():
        megabytes = rate["median"] * IMAGE_BYTES / 1e6
        lines.append(f"| {name} | {rate['median']:,.0f} ± {rate['spread'] / 2:,.0f} | {megabytes:,.0f} |")
    share = result["of_plain"]
    return "\n".join([*lines, "", f"ring / plain: {share['median']:.2f} ± {share['spread'] / 2:.2f}", ""])
