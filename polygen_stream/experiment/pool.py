"""A pool on disk: captions with their hard negatives, and pictures of them by every generator.

    captions.jsonl                               one line per caption
    images/GENERATOR/positives-K/SHARD.npy       uint8 [captions of the shard, H, W, 3], copy K

Shards are written whole or not at all, so that rendering goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from polygen_stream.assets.resources import recipe_name, recipe_slug
from polygen_stream.base.errors import PolygenError
from polygen_stream.base.files import replacing, write_atomically
from polygen_stream.config import RunConfig, load_config
from polygen_stream.experiment.spec import PoolSpec
from polygen_stream.experiment.workers import workers_of
from polygen_stream.schedule.ledger import Ledger

SHARD = 512  # captions
CAPTIONS_AT_ONCE = 64


@dataclass(frozen=True)
class PoolCaption:
    task_id: int
    concept: str
    axis: str
    text: str
    negative: str


class PicturePool:
    """A rendered pool, in memory as far as it was asked for."""

    def __init__(self, spec: PoolSpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder
        self.captions = read_captions(folder)
        self._images: dict[tuple[str, bool, int], np.ndarray] = {}

    def images(self, generator: str, negatives: bool, copy: int) -> np.ndarray:
        """uint8 [captions that have this copy, H, W, 3]."""
        wanted = (generator, negatives, copy)
        if wanted not in self._images:
            folder, captions = self._folder, self.spec.copies(generator, negatives)[copy]
            shards = [shard_path(folder, generator, negatives, copy, start) for start in range(0, captions, SHARD)]
            self._images[wanted] = np.concatenate([np.load(shard, allow_pickle=False) for shard in shards])[:captions]
        return self._images[wanted]


def read_captions(folder: Path) -> list[PoolCaption]:
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [PoolCaption(**json.loads(line)) for line in lines]


def shard_path(folder: Path, generator: str, negatives: bool, copy: int, start: int) -> Path:
    kind = "negatives" if negatives else "positives"
    return folder / "images" / recipe_slug(recipe_name(generator)) / f"{kind}-{copy}" / f"{start:06}.npy"


def make_pool(spec: PoolSpec, folder: Path, jobs: int, progress: Progress) -> PicturePool:
    """Write the captions and render what is missing of the pictures.

    Args:
        jobs: processes, one CPU thread each.

    Raises:
        PolygenError: a generator renders pictures that show nothing.
    """
    if not (folder / "captions.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_captions(spec, folder, progress)
    missing = {name: _missing_shards(spec, folder, name) for name in spec.generators}
    missing = {name: shards for name, shards in missing.items() if shards}
    if missing:
        task = progress.add_task("rendering the pool", total=sum(map(len, missing.values())))
        with workers_of(jobs) as workers:
            # Few shards at a time, so that the last generator does not keep one process busy alone.
            chunks = [(name, shards[i : i + 8]) for name, shards in missing.items() for i in range(0, len(shards), 8)]
            for done in as_completed([workers.submit(render_shards, spec, folder, *chunk) for chunk in chunks]):
                progress.advance(task, done.result())
    return PicturePool(spec, folder)


def write_captions(spec: PoolSpec, folder: Path, progress: Progress) -> None:
    """Captions of the ledger's tasks, by the micro preset's language models; a task they fail at is left out."""
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
                written.append(PoolCaption(task.task_id, task.concept, task.axis, caption.text, caption.negative))
        progress.update(bar, completed=min(len(written), spec.captions))
    lines = [json.dumps(asdict(caption)) + "\n" for caption in written[: spec.captions]]
    write_atomically(folder / "captions.jsonl", "".join(lines))


Shard = tuple[bool, int, int]  # negatives, copy, first caption


def render_shards(spec: PoolSpec, folder: Path, generator: str, shards: Sequence[Shard]) -> int:
    """Render some shards of one generator; how many. For a process of its own."""
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
        images = []
        for i in range(0, len(rows), config.generators.batch):
            at = slice(i, i + config.generators.batch)
            images.append(loaded.render(texts[at], seeds[at]))
        pictures = np.concatenate(images)
        for row, reason in zip(rows, refuse_reasons(pictures), strict=True):
            if reason is not None:
                name = recipe_name(generator)
                raise PolygenError(f"{name}, task {row.task_id}: {reason}: see `polygen-stream audit`")
        path = shard_path(folder, generator, negatives, copy, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, pictures)
    return len(shards)


def _missing_shards(spec: PoolSpec, folder: Path, generator: str) -> list[Shard]:
    path = partial(shard_path, folder, generator)
    return [
        (negatives, copy, start)
        for negatives in (False, True)
        for copy, captions in enumerate(spec.copies(generator, negatives))
        for start in range(0, captions, SHARD)
        if not path(negatives, copy, start).exists()
    ]


def _config(spec: PoolSpec) -> RunConfig:
    return load_config("micro", {"captions.batch": str(CAPTIONS_AT_ONCE), "captions.backlog": str(CAPTIONS_AT_ONCE)})
