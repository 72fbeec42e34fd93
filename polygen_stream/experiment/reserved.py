"""How many images of a pool show a combination that is reserved for the test set: the oracle reads them.

No caption names a reserved combination. Where a caption leaves the colour or the background of its thing open, a
generator may draw one all the same, and CLIP then trains on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from polygen_stream.assets.resources import SHIPPED_WEIGHTS, recipe_name
from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.base.text_files import read_text
from polygen_stream.experiment.pool import ImagePool
from polygen_stream.experiment.spec import Experiment, ImagesNeeded
from polygen_stream.micro.oracle import ANSWERS, Oracle, load_oracle
from polygen_stream.micro.parse import parse
from polygen_stream.micro.world import Scene, Thing, is_reserved

SURE = 0.9  # probability of the oracle's answer, for each of thing, colour and background


class ReservedCount(BaseModel, frozen=True):
    """Images of captions of one thing, positives and negatives.

    Attributes:
        images: how many there are.
        sure: how many of them the oracle reads thing, colour and background of with a probability of SURE or more.
        reserved: how many of these show a reserved combination.
    """

    images: int
    sure: int
    reserved: int


class PoolCounts(BaseModel, frozen=True):
    """What the counts file of an experiment holds: {name of the pool: {name of the generator: count}}."""

    pools: dict[str, dict[str, ReservedCount]] = {}


def count_reserved(pool: ImagePool, needed: ImagesNeeded, oracle: Oracle) -> dict[str, ReservedCount]:
    """Count, for each generator by name, those of its needed images that show a reserved combination."""
    single = _of_one_thing(pool)
    counts = {}
    for generator in sorted({generator for generator, _, _ in needed}, key=pool.spec.generators.index):
        images = [
            pool.images(generator, negatives, copy)[:captions][single[negatives][:captions]]
            for (name, negatives, copy), captions in needed.items()
            if name == generator
        ]
        read = [_shown(oracle, part) for part in images]
        sure = [combination for part in read for combination in part]
        reserved = sum(is_reserved(Scene((Thing(noun, colour),), place)) for noun, colour, place in sure)
        counts[recipe_name(generator)] = ReservedCount(images=sum(map(len, images)), sure=len(sure), reserved=reserved)
    return counts


def counts_path(table: Path) -> Path:
    """Return the file of counts that belongs to a result table: NAME-reserved.json beside NAME.csv."""
    return table.with_name(f"{table.stem}-reserved.json")


def _of_one_thing(pool: ImagePool) -> dict[bool, np.ndarray]:
    """Return which T+ and which T- of a pool name one thing only, bool [captions] of either."""
    texts = {False: [caption.text for caption in pool.captions], True: [caption.negative for caption in pool.captions]}
    return {kind: np.array([text is not None and not parse(text).is_pair for text in texts[kind]]) for kind in texts}


def _is_counted(pool: ImagePool, needed: ImagesNeeded, counts: Mapping[str, ReservedCount] | None) -> bool:
    single, images = _of_one_thing(pool), Counter[str]()
    for (generator, negatives, _), captions in needed.items():
        images[recipe_name(generator)] += int(np.count_nonzero(single[negatives][:captions]))
    return counts is not None and images == {name: count.images for name, count in counts.items()}


def update_counts(pools: Sequence[tuple[ImagePool, ImagesNeeded]], file: Path) -> None:
    """Write the counts of the needed images of these pools, and count those that the file does not have.

    Raises:
        UserError: the file is damaged.
    """
    known = _read(file)
    missing = [(pool, needed) for pool, needed in pools if not _is_counted(pool, needed, known.get(pool.spec.name))]
    if missing:
        oracle = load_oracle(SHIPPED_WEIGHTS / "oracle" / "oracle.safetensors")
        known |= {pool.spec.name: count_reserved(pool, needed, oracle) for pool, needed in missing}
    counts = PoolCounts(pools={pool.spec.name: known[pool.spec.name] for pool, _ in pools})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, counts.model_dump_json(indent=2) + "\n")


def read_counts(file: Path, experiment: Experiment) -> dict[str, ReservedCount]:
    """Return the counts of all pools of an experiment together, by generator; {} before its pools were counted.

    Raises:
        UserError: the file is damaged.
    """
    known = _read(file)
    names = [experiment.numbered_pool(number).name for number in range(experiment.pools)]
    if not all(name in known for name in names):
        return {}
    totals: dict[str, ReservedCount] = {}
    for generator, count in (each for name in names for each in known[name].items()):
        before = totals.get(generator, ReservedCount(images=0, sure=0, reserved=0))
        totals[generator] = ReservedCount(
            images=before.images + count.images,
            sure=before.sure + count.sure,
            reserved=before.reserved + count.reserved,
        )
    return totals


def _read(file: Path) -> dict[str, dict[str, ReservedCount]]:
    if not file.exists():
        return {}
    text = read_text(file, "file of counts")
    try:
        return PoolCounts.model_validate_json(text).pools
    except ValidationError as problem:
        first = problem.errors()[0]["msg"]
        raise UserError(f"{file} is damaged ({first}): remove it, and the images are counted again") from None


def _shown(oracle: Oracle, images: np.ndarray) -> list[tuple[str, str, str]]:
    """Return (thing, colour, background) of those images whose three the oracle is sure of."""
    if not len(images):
        return []
    log_p = oracle.read(images).log_p
    asked = ("thing", "colour", "background")
    sure = np.all([log_p[question].max(1) >= np.log(SURE) for question in asked], axis=0)
    thing, colour, place = (log_p[question].argmax(1)[sure] for question in asked)
    return [
        (ANSWERS["thing"][t], ANSWERS["colour"][c], ANSWERS["background"][b])
        for t, c, b in zip(thing, colour, place, strict=True)
    ]
