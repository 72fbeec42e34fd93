"""The pictures of the task `transfer` without npm: every one in a colour that tells its thing."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from polygen_stream.evaluate.transfer.folder import write_record
from polygen_stream.evaluate.transfer.picture_list import read_picture_list
from polygen_stream.micro.world import THINGS


def angle(thing: int) -> float:
    return 2 * math.pi * thing / len(THINGS)


def colour(thing: int) -> tuple[int, int, int]:
    return round(128 + 100 * math.cos(angle(thing))), round(128 + 100 * math.sin(angle(thing))), 0


def paint_pictures(folder: Path) -> Path:
    """Every picture of the list in its thing's colour, but the houses in the trees'."""
    pictures = read_picture_list()
    for each in pictures:
        file = folder / each.file
        file.parent.mkdir(parents=True, exist_ok=True)
        shown = "tree" if each.thing == "house" else each.thing
        Image.new("RGB", (4, 4), colour(THINGS.index(shown))).save(file)
    write_record(folder, pictures, "painted by a test")
    return folder
