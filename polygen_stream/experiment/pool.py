"""A pool on disk: captions with their hard negatives, and images of them by every generator.

    captions.jsonl                          one line per caption, no two of one meaning; the first have a hard negative
    images/GENERATOR/KIND-K/SHARD.npy       uint8 [captions of the shard, H, W, 3], copy K of "positives", "negatives"
                                            or "held-out"

Shards are written whole or not at all, so that rendering continues where it was stopped. An experiment renders those
that its arms need; another one on the same pool adds its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.progress import Progress

from polygen_stream.assets.resources import recipe_name, recipe_slug
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.files import replacing, write_atomically
from polygen_stream.base.seeding import key
from polygen_stream.captions.base import Caption, CaptionSource, describes_scene
from polygen_stream.experiment.quotas import Quotas, Sort
from polygen_stream.experiment.spec import CAPTIONS_AT_ONCE, ImagesNeeded, PoolSpec
from polygen_stream.experiment.workers import workers_of
from polygen_stream.micro.parse import meaning
from polygen_stream.micro.world import Scene
from polygen_stream.schedule.ledger import CaptionTask, Ledger

SHARD = 512  # captions
SHARDS_AT_ONCE = 8  # of one generator; few, so that the last generator does not keep one process busy alone


@dataclass(frozen=True)
class PoolCaption:
    """A caption, its hard negative if a layer has images of it, and the ledger's task that it was written for."""

    task_id: int
    concept: str
    axis: str
    text: str
    negative: str | None


Kind = Literal["positives", "negatives", "held-out"]


class Shard(NamedTuple):
    """One file of images: of the captions number `start` to `stop` - 1.

    "held-out" images are the positives of the captions that no arm trains on.
    """

    kind: Kind
    copy: int
    start: int
    stop: int


class ImagePool:
    """A rendered pool; images are loaded when they are first asked for and kept in memory."""

    def __init__(self, spec: PoolSpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder
        self.captions = read_captions(folder)
        self._images: dict[tuple[str, str, int], np.ndarray] = {}

    def images(self, generator: str, negatives: bool, copy: int) -> np.ndarray:
        """Return uint8 [captions that have this copy, H, W, 3], as far as they are rendered."""
        return self._load(generator, "negatives" if negatives else "positives", copy)

    def held_out(self, generator: str) -> np.ndarray:
        """Return uint8 [held-out captions, H, W, 3], one image of each of the last captions."""
        return self._load(generator, "held-out", 0)

    def _load(self, generator: str, kind: str, copy: int) -> np.ndarray:
        wanted = (generator, kind, copy)
        if wanted not in self._images:
            shards = [shard for shard in shards_of(self.spec, generator) if (shard.kind, shard.copy) == (kind, copy)]
            files = [shard_path(self._folder, generator, shard) for shard in shards]
            self._images[wanted] = np.concatenate([_read_shard(file) for file in takewhile(Path.exists, files)])
        return self._images[wanted]


def image_seed(pool_seed: int, task_id: int, generator: str, copy: int) -> int:
    """Return the seed of the noise of copy `copy` of a caption by a generator, in [0, 2**63).

    No two positives of a pool share one. A hard negative has the noise of its positive, so that the two images differ
    in what the captions differ in.
    """
    return key(pool_seed, "pool image", task_id, recipe_name(generator), copy) >> 1


def read_captions(folder: Path) -> list[PoolCaption]:
    """Read the captions of a pool.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / "captions.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return [PoolCaption(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as problem:
        raise UserError(f"{file} is damaged ({problem}): remove the pool's folder and start again") from None


def shard_path(folder: Path, generator: str, shard: Shard) -> Path:
    """Return the file of a shard."""
    slug = recipe_slug(recipe_name(generator))
    return folder / "images" / slug / f"{shard.kind}-{shard.copy}" / f"{shard.start:06}.npy"


def shards_of(spec: PoolSpec, generator: str, needed: ImagesNeeded | None = None) -> list[Shard]:
    """Return all shards of a generator, or those with images that are needed and the held-out ones."""
    ranges: list[tuple[Kind, int, int, int]] = [
        *(("positives", copy, 0, stop) for copy, stop in enumerate(spec.copies(generator, False))),
        *(("negatives", copy, 0, stop) for copy, stop in enumerate(spec.copies(generator, True))),
        ("held-out", 0, spec.trainable, spec.captions),
    ]
    return [
        Shard(kind, copy, at, min(at + SHARD, stop))
        for kind, copy, start, stop in ranges
        for at in range(start, stop, SHARD)
        if needed is None or kind == "held-out" or at < needed.get((generator, kind == "negatives", copy), 0)
    ]


def make_pool(spec: PoolSpec, needed: ImagesNeeded, folder: Path, jobs: int, progress: Progress) -> None:
    """Write the captions and render the images that are missing.

    Args:
        spec: what the pool holds.
        needed: which of its images are to be there.
        folder: where it is.
        jobs: processes, one CPU thread each.
        progress: shows one bar for captions and one for shards.

    Raises:
        PolygenError: a generator renders images that show nothing.
        UserError: the bank has too few captions of different meanings.
    """
    if not (folder / "captions.jsonl").exists():
        import torch

        from polygen_stream.captions.sources import caption_source

        torch.set_num_threads(1)
        folder.mkdir(parents=True, exist_ok=True)
        write_captions(caption_source(spec.config().captions), spec, folder, progress)
    missing = {
        name: [shard for shard in shards_of(spec, name, needed) if not shard_path(folder, name, shard).exists()]
        for name in spec.generators
    }
    total = sum(map(len, missing.values()))
    if not total:
        return
    bar = progress.add_task("rendering the pool", total=total)
    chunks = [
        (name, shards[i : i + SHARDS_AT_ONCE])
        for name, shards in missing.items()
        for i in range(0, len(shards), SHARDS_AT_ONCE)
    ]
    with workers_of(jobs) as workers:
        for done in as_completed([workers.submit(render_shards, spec, folder, *chunk) for chunk in chunks]):
            progress.advance(bar, done.result())


def write_captions(source: CaptionSource, spec: PoolSpec, folder: Path, progress: Progress) -> None:
    """Write captions.jsonl: captions of the ledger's tasks, no two of one meaning.

    Tasks are drawn until there are enough; those that fail, and those whose caption means what an earlier one does, are
    left out. Some sorts of caption have far fewer meanings than others: terse ones than whole scenes, those that name a
    thing alone than those that place one coloured thing beside another. So the pool has quotas: all axes have the same
    number of captions, `captions.scene_share` of which describe whole scenes. The quota of a sort that has no more
    meanings goes to the other sorts. Then the captions are shuffled: the first n of a pool are a sample of all of them.
    As many of the first have a hard negative as a layer has images of; those whose negative fails come later.

    Args:
        source: writes the captions.
        spec: how many, and the seed.
        folder: where the file goes.
        progress: shows a bar.

    Raises:
        UserError: the source does not have so many meanings, or hard negatives.
    """
    bar = progress.add_task("writing captions", total=spec.captions)
    share = spec.config().captions.scene_share
    ledger = Ledger(spec.seed, source.concepts, source.axes, 1, 1)
    quotas = Quotas(spec.captions, share, source.axes)
    found: dict[Scene, tuple[CaptionTask, str]] = {}
    number = 0
    while len(found) < spec.captions:
        drawn = [ledger.task(number + i) for i in range(CAPTIONS_AT_ONCE)]
        number += CAPTIONS_AT_ONCE
        sorts = [Sort(task.axis, describes_scene(task.caption_seed, share)) for task in drawn]
        wanted = [(task, sort) for task, sort in zip(drawn, sorts, strict=True) if quotas.left(sort)]
        captions = source.write([task for task, _ in wanted], [False] * len(wanted))
        for (task, sort), caption in zip(wanted, captions, strict=True):
            if not quotas.left(sort):
                continue
            if isinstance(caption, Caption) and meaning(caption.text) not in found:
                found[meaning(caption.text)] = task, caption.text
                quotas.note(sort, is_new=True)
            else:
                quotas.note(sort, is_new=False)
        progress.update(bar, completed=len(found))
    shuffled = sorted(found.values(), key=lambda each: key(spec.seed, "pool order", each[0].task_id))
    chosen = _with_negatives(source, shuffled, spec.negatives)
    write_atomically(folder / "captions.jsonl", "".join(json.dumps(asdict(caption)) + "\n" for caption in chosen))


def _with_negatives(
    source: CaptionSource, captions: Sequence[tuple[CaptionTask, str]], count: int
) -> list[PoolCaption]:
    """Return all captions, those first that were given one of `count` hard negatives."""
    first: list[PoolCaption] = []
    others: list[PoolCaption] = []
    at = 0
    while len(first) < count:
        batch = captions[at : at + min(CAPTIONS_AT_ONCE, count - len(first))]
        if not batch:
            raise UserError(
                f"{len(first):,} of the pool's {len(captions):,} captions could be given a hard negative, and a layer"
                f" has images of {count:,}: raise pool.captions"
            )
        at += len(batch)
        written = source.write([task for task, _ in batch], [True] * len(batch))
        for (task, text), caption in zip(batch, written, strict=True):
            negative = caption.negative if isinstance(caption, Caption) and caption.text == text else None
            made = PoolCaption(task.task_id, task.concept, task.axis, text, negative)
            (others if negative is None else first).append(made)
    others += [PoolCaption(task.task_id, task.concept, task.axis, text, None) for task, text in captions[at:]]
    return first + others


def render_shards(spec: PoolSpec, folder: Path, generator: str, shards: Sequence[Shard]) -> int:
    """Render some shards of one generator, in a process of its own.

    Returns:
        The number of shards.

    Raises:
        PolygenError: an image shows nothing.
    """
    import torch

    from polygen_stream.engine.runtime import accelerate
    from polygen_stream.generators.pipelines import load_generator
    from polygen_stream.generators.quality import refuse_reasons
    from polygen_stream.generators.recipe import load_recipe

    torch.set_num_threads(1)
    config = spec.config()
    loaded = load_generator(load_recipe(generator), config.generators.device, config.ring.image_size)
    accelerate(loaded, config.generators.backend, threads=1)
    captions = read_captions(folder)
    for shard in shards:
        rows = captions[shard.start : shard.stop]
        texts = [row.negative or "" if shard.kind == "negatives" else row.text for row in rows]
        seeds = [image_seed(spec.seed, row.task_id, generator, shard.copy) for row in rows]
        batches = []
        for i in range(0, len(rows), config.generators.batch):
            at = slice(i, i + config.generators.batch)
            batches.append(loaded.render(texts[at], seeds[at]))
        images = np.concatenate(batches)
        for row, reason in zip(rows, refuse_reasons(images), strict=True):
            if reason is not None:
                name = recipe_name(generator)
                raise PolygenError(f"{name}, task {row.task_id}: {reason}: see `polygen-stream audit`")
        path = shard_path(folder, generator, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, images)
    return len(shards)


def _read_shard(shard: Path) -> np.ndarray:
    try:
        return np.load(shard, allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise UserError(f"{shard} is damaged ({problem}): remove it, and it is rendered again") from None
