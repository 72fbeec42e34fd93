"""The task `transfer`: are pictures that others drew called by the names of the micro world's things?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.metrics import ranks
from polygen_stream.evaluate.micro_suite import thing_prompts
from polygen_stream.evaluate.score import Score, proportion
from polygen_stream.evaluate.transfer.folder import check_folder, default_folder
from polygen_stream.evaluate.transfer.picture_list import STYLES, Picture, read_picture_list
from polygen_stream.micro.world import THINGS

CHANCE = 1 / len(THINGS)


def picture_folder(dataset: str) -> Path:
    """Return the folder that a task's dataset names; "" = the default one.

    Raises:
        UserError: There is no home folder for the default one.
    """
    return Path(dataset) if dataset else default_folder()


def listed_pictures(folder: Path) -> list[Picture]:
    """Return the pictures of the list, all of which are in `folder`.

    Raises:
        UserError: They are not.
    """
    pictures = read_picture_list()
    check_folder(folder, pictures)
    return list(pictures)


def transfer(data: Data, dataset: str) -> dict[str, Score]:
    """Top-1 and top-5 among the 24 things, with the prompts of the micro suite; top-1 of each style of drawing.

    `data.correct` says of each picture of the dataset whether its thing was the most similar one.

    Args:
        data: Encoder and notes.
        dataset: The folder that `polygen-stream fetch-pictures` made; "" = the default one.

    Raises:
        UserError: It is none.
    """
    folder, name = picture_folder(dataset), dataset or "transfer"
    pictures = listed_pictures(folder)
    prompts = thing_prompts()
    data.note(name, f"{len(pictures)} pictures of {len(THINGS)} things")
    data.note_cut(name, [prompt for of_thing in prompts for prompt in of_thing])
    features = data.pictures(name, [folder / each.file for each in pictures])
    own = torch.tensor([THINGS.index(each.thing) for each in pictures])
    place = ranks(features, data.encoder.classes(prompts), own).numpy()
    first = place == 1
    data.correct[name] = {each.file: bool(right) for each, right in zip(pictures, first, strict=True)}
    style = np.array([each.package.style for each in pictures])
    by_style = {f"acc1_{one}": proportion(first[style == one], CHANCE) for one in STYLES}
    return {"acc1": proportion(first, CHANCE), "acc5": proportion(place <= 5, 5 / len(THINGS)), **by_style}
