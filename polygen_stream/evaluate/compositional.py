"""Compositional benchmarks: captions and pictures that differ in one thing.

SugarCrepe's and SugarCrepe++'s captions come with the package (benchmarks/, with their licences); their pictures are
COCO's val2017.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.evaluate.data import DATA_OPTION, Data
from polygen_stream.evaluate.metrics import group_scores, more_similar, text_only
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.evaluate.tables import Table, read_table

BENCHMARKS = Path(__file__).parent / "benchmarks"
CATEGORIES = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
CATEGORIES_PP = CATEGORIES[2:]


@dataclass(frozen=True)
class Row:
    """A picture's file name, a caption, one that is false, and in SugarCrepe++ another that means the same."""

    file: str
    caption: str
    negative: str
    paraphrase: str = ""


def read_sugarcrepe(category: str) -> list[Row]:
    """RAIVNLab/sugar-crepe data/: {"0": row, ...}, in which some numbers are left out."""
    rows = json.loads((BENCHMARKS / "sugarcrepe" / f"{category}.json").read_text(encoding="utf-8"))
    return [Row(row["filename"], row["caption"], row["negative_caption"]) for row in rows.values()]


def read_sugarcrepe_pp(category: str) -> list[Row]:
    """Sri-Harsha/scpp data/: [row, ...]."""
    rows = json.loads((BENCHMARKS / "sugarcrepe_pp" / f"{category}.json").read_text(encoding="utf-8"))
    return [Row(row["filename"], row["caption"], row["negative_caption"], row["caption2"]) for row in rows]


def sugarcrepe(data: Data, dataset: str = "") -> dict[str, Score]:
    """Share of pictures that are closer to their caption, by category, and the mean over categories.

    dataset: folder of the pictures; else val2017 below the data root.
    """
    rows = {category: read_sugarcrepe(category) for category in CATEGORIES}
    images = _images(data, "sugarcrepe", dataset, rows)
    _note_texts(data, "sugarcrepe", rows, "caption", "negative")
    scores = {
        category: proportion(
            more_similar(images[category], *_texts(data, found, "caption", "negative")).numpy(), chance=0.5
        )
        for category, found in rows.items()
    }
    return {"mean": mean_of(list(scores.values())), **scores}


def sugarcrepe_pp(data: Data, dataset: str = "") -> dict[str, Score]:
    """ITT (the picture is closer to both true captions), its two halves, and TOT; by category, and the means.

    dataset: folder of the pictures; else val2017 below the data root.
    """
    rows = {category: read_sugarcrepe_pp(category) for category in CATEGORIES_PP}
    images = _images(data, "sugarcrepe_pp", dataset, rows)
    _note_texts(data, "sugarcrepe_pp", rows, "caption", "paraphrase", "negative")
    scores: dict[str, Score] = {}
    for category, found in rows.items():
        caption, paraphrase, negative = _texts(data, found, "caption", "paraphrase", "negative")
        first = more_similar(images[category], caption, negative).numpy()
        second = more_similar(images[category], paraphrase, negative).numpy()
        scores[f"itt_{category}"] = proportion(first & second, chance=1 / 3)
        scores[f"caption_{category}"] = proportion(first, chance=0.5)
        scores[f"paraphrase_{category}"] = proportion(second, chance=0.5)
        scores[f"tot_{category}"] = proportion(text_only(caption, paraphrase, negative).numpy(), chance=1 / 3)
    means = {
        kind: mean_of([scores[f"{kind}_{category}"] for category in CATEGORIES_PP])
        for kind in ("itt", "caption", "paraphrase", "tot")
    }
    return {**means, **scores}


def check_no_dataset(dataset: str) -> None:
    """Refuse a dataset of `sugarcrepe_pp_tot`.

    Raises:
        UserError: there is one.
    """
    if dataset:
        raise UserError(f"sugarcrepe_pp_tot:{dataset}: this task needs no pictures and takes no dataset")


def sugarcrepe_pp_tot(data: Data, dataset: str = "") -> dict[str, Score]:
    """TOT alone: the text tower, no pictures."""
    check_no_dataset(dataset)
    rows = {category: read_sugarcrepe_pp(category) for category in CATEGORIES_PP}
    _note_texts(data, "sugarcrepe_pp", rows, "caption", "paraphrase", "negative")
    scores = {}
    for category, found in rows.items():
        texts = _texts(data, found, "caption", "paraphrase", "negative")
        scores[category] = proportion(text_only(*texts).numpy(), chance=1 / 3)
    return {"mean": mean_of(list(scores.values())), **scores}


def read_edits(dataset: str) -> tuple[Table, list[Path]]:
    """Return a user's TSV of (image, caption, negative), and its pictures.

    Raises:
        UserError: it cannot be used, or a picture is not there.
    """
    table = read_table(Path(dataset), ("image", "caption", "negative"))
    table.check_different("caption", "negative")
    return table, table.pictures("image")


def read_pairs(dataset: str) -> tuple[Table, list[list[Path]]]:
    """Return a user's TSV of (image_0, caption_0, image_1, caption_1), and the pictures of both columns.

    Raises:
        UserError: it cannot be used, or a picture is not there.
    """
    table = read_table(Path(dataset), ("image_0", "caption_0", "image_1", "caption_1"))
    table.check_different("caption_0", "caption_1")
    table.check_different("image_0", "image_1")
    return table, [table.pictures(f"image_{i}") for i in (0, 1)]


def edits(data: Data, dataset: str) -> dict[str, Score]:
    """A user's TSV of (image, caption, negative), with an optional column `edit` that names what was changed."""
    table, files = read_edits(dataset)
    data.note(dataset, *table.read)
    images = data.pictures(dataset, files)
    captions, negatives = ([row[column] for row in table.rows] for column in ("caption", "negative"))
    data.note_cut(dataset, captions + negatives)
    data.note_equal(dataset, "caption and negative", captions, negatives)
    right = more_similar(images, data.encoder.texts(captions), data.encoder.texts(negatives)).numpy()
    names = np.array([row.get("edit", "").strip() or "all" for row in table.rows])
    scores = {str(name): proportion(right[names == name], chance=0.5) for name in np.unique(names)}
    return scores if len(scores) == 1 else {"mean": mean_of(list(scores.values())), **scores}


def pairs(data: Data, dataset: str) -> dict[str, Score]:
    """Winoground's scores of a user's TSV of (image_0, caption_0, image_1, caption_1)."""
    table, files = read_pairs(dataset)
    data.note(dataset, *table.read)
    images = torch.stack([data.pictures(dataset, each) for each in files], 1)
    captions = [[row[f"caption_{i}"] for row in table.rows] for i in (0, 1)]
    data.note_cut(dataset, captions[0] + captions[1])
    data.note_equal(dataset, "both captions", *captions)
    texts = torch.stack([data.encoder.texts(each) for each in captions], 1)
    chances = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
    right = zip(chances.items(), group_scores(images, texts), strict=True)
    return {name: proportion(answers.numpy(), chance) for (name, chance), answers in right}


def _note_texts(data: Data, name: str, rows: dict[str, list[Row]], *fields: str) -> None:
    """Note the captions that the model cannot see whole, and those that it cannot tell from their negatives."""
    everything = [row for found in rows.values() for row in found]
    texts = {field: [getattr(row, field) for row in everything] for field in fields}
    data.note_cut(name, [text for each in texts.values() for text in each])
    for field in fields[:-1]:
        data.note_equal(name, f"{field} and {fields[-1]}", texts[field], texts[fields[-1]])


def _texts(data: Data, rows: list[Row], *fields: str) -> list[torch.Tensor]:
    return [data.encoder.texts([getattr(row, field) for row in rows]) for field in fields]


def _images(data: Data, name: str, folder: str, rows: dict[str, list[Row]]) -> dict[str, torch.Tensor]:
    """Features of each category's pictures; each file is encoded once."""
    features = data.pictures(name, find_pictures(folder, data.root, [row for found in rows.values() for row in found]))
    return dict(zip(rows, features.split([len(found) for found in rows.values()]), strict=True))


def find_pictures(folder: str, root: str | None, everything: Sequence[Row]) -> list[Path]:
    """Return the picture file of each row, in `folder`, or if that is "" in val2017 below the data root.

    Raises:
        UserError: there is no such folder, or a picture is not in it.
    """
    where = _val2017(folder, root)
    missing = sorted({row.file for row in everything if not (where / row.file).exists()})
    if missing:
        raise UserError(
            f"{len(missing)} of the pictures are not in {where}, e.g. {missing[0]}: it has to hold COCO's val2017"
            " (val2017.zip of cocodataset.org)"
        )
    return [where / row.file for row in everything]


def _val2017(folder: str, root: str | None) -> Path:
    places = [Path(folder)] if folder else [Path(root) / "val2017", Path(root) / "coco" / "val2017"] if root else []
    for place in places:
        if place.is_dir():
            return place
    looked = f"there is no {' and no '.join(map(str, places))}" if places else f"no {DATA_OPTION} was given"
    raise UserError(
        f"SugarCrepe's pictures are missing, {looked}: unzip val2017.zip of cocodataset.org (1 GB) and name the folder"
        " above it with --data, or the folder itself as sugarcrepe:FOLDER; sugarcrepe_pp_tot needs no pictures"
    )
