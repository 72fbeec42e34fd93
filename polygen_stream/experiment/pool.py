"""A pool on disk: captions with their hard negatives, and images of them by every generator.

    captions.jsonl                               one line per caption
    images/GENERATOR/positives-K/SHARD.npy       uint8 [captions of the shard, H, W, 3], copy K

Shards are written whole or not at all, so that rendering continues where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from polygen_stream.assets.resources import recipe_name, recipe_slug
from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.files import replacing, write_atomically
from polygen_stream.config import RunConfig, load_config
from polygen_stream.experiment.spec import PoolSpec
from polygen_stream.experiment.workers import workers_of
from polygen_stream.schedule.ledger import Ledger

SHARD = 512  # captions
CAPTIONS_AT_ONCE = 64
SHARDS_AT_ONCE = 8  # of one generator; few, so that the last generator does not keep one process busy alone


@dataclass(frozen=True)
class PoolCaption:
    """A caption with its hard negative, and the ledger's task that it was written for."""

    task_id: int
    concept: str
    axis: str
    text: str
    negative: str


class ImagePool:
    """A rendered pool; images are loaded when they are first asked for and kept in memory."""

    def __init__(self, spec: PoolSpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder
        self.captions = read_captions(folder)
        self._images: dict[tuple[str, bool, int], np.ndarray] = {}

    def images(self, generator: str, negatives: bool, copy: int) -> np.ndarray:
        """Return uint8 [captions that have this copy, H, W, 3]."""
        key = (generator, negatives, copy)
        if key not in self._images:
            folder, captions = self._folder, self.spec.copies(generator, negatives)[copy]
            shards = [shard_path(folder, generator, negatives, copy, start) for start in range(0, captions, SHARD)]
            self._images[key] = np.concatenate([_load(shard) for shard in shards])[:captions]
        return self._images[key]


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


def shard_path(folder: Path, generator: str, negatives: bool, copy: int, start: int) -> Path:
    """Return the file of one copy of the captions from number `start` on."""
    kind = "negatives" if negatives else "positives"
    return folder / "images" / recipe_slug(recipe_name(generator)) / f"{kind}-{copy}" / f"{start:06}.npy"


def make_pool(spec: PoolSpec, folder: Path, jobs: int, progress: Progress) -> None:
    """Write the captions and render the images that are missing.

    Args:
        spec: what the pool holds.
        folder: where it is.
        jobs: processes, one CPU thread each.
        progress: shows one bar for captions and one for shards.

    Raises:
        PolygenError: a generator renders images that show nothing.
    """
    if not (folder / "captions.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_captions(spec, folder, progress)
    missing = {name: _missing_shards(spec, folder, name) for name in spec.generators}
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


def write_captions(spec: PoolSpec, folder: Path, progress: Progress) -> None:
    """Write captions of the ledger's tasks with the micro preset's language models; tasks that fail are left out."""
    import torch

    from polygen_stream.captions.base import Caption
    from polygen_stream.captions.sources import caption_source

    torch.set_num_threads(1)
    config = _config(spec)
    source = caption_source(config.captions)
    ledger = Ledger(spec.seed, source.concepts, source.axes, len(spec.generators), 1)
    written: list[PoolCaption] = []
    bar = progress.add_task("writing captions", total=spec.captions)
    start = 0
    while len(written) < spec.captions:
        tasks = [ledger.task(start + i) for i in range(CAPTIONS_AT_ONCE)]
        start += CAPTIONS_AT_ONCE
        for task, caption in zip(tasks, source.write(tasks, [True] * len(tasks)), strict=True):
            if isinstance(caption, Caption):
                assert caption.negative is not None  # every task asks for one
                written.append(PoolCaption(task.task_id, task.concept, task.axis, caption.text, caption.negative))
        progress.update(bar, completed=min(len(written), spec.captions))
    lines = [json.dumps(asdict(caption)) + "\n" for caption in written[: spec.captions]]
    write_atomically(folder / "captions.jsonl", "".join(lines))


Shard = tuple[bool, int, int]  # negatives, copy, first caption


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
    config = _config(spec)
    loaded = load_generator(load_recipe(generator), config.generators.device, config.ring.image_size)
    accelerate(loaded, config.generators.backend, threads=1)
    captions = read_captions(folder)
    ledger = Ledger(spec.seed, ["-"], ["-"], 1, 1 + max(copy for _, copy, _ in shards))
    for negatives, copy, start in shards:
        rows = captions[start : min(start + SHARD, spec.copies(generator, negatives)[copy])]
        texts = [row.negative if negatives else row.text for row in rows]
        # A negative has the noise of its positive.
        seeds = [ledger.task(row.task_id).image_seeds[copy] for row in rows]
        batches = []
        for i in range(0, len(rows), config.generators.batch):
            at = slice(i, i + config.generators.batch)
            batches.append(loaded.render(texts[at], seeds[at]))
        images = np.concatenate(batches)
        for row, reason in zip(rows, refuse_reasons(images), strict=True):
            if reason is not None:
                name = recipe_name(generator)
                raise PolygenError(f"{name}, task {row.task_id}: {reason}: see `polygen-stream audit`")
        path = shard_path(folder, generator, negatives, copy, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, images)
    return len(shards)


def _load(shard: Path) -> np.ndarray:
    try:
        return np.load(shard, allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise UserError(f"{shard} is damaged ({problem}): remove it, and it is rendered again") from None


def _missing_shards(spec: PoolSpec, folder: Path, generator: str) -> list[Shard]:
    return [
        (negatives, copy, start)
        for negatives in (False, True)
        for copy, captions in enumerate(spec.copies(generator, negatives))
        for start in range(0, captions, SHARD)
        if not shard_path(folder, generator, negatives, copy, start).exists()
    ]


def _config(spec: PoolSpec) -> RunConfig:
    return load_config("micro", {"captions.batch": str(CAPTIONS_AT_ONCE), "captions.backlog": str(CAPTIONS_AT_ONCE)})
