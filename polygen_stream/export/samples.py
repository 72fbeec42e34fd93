"""Every picture of a run as (caption, generator, seed), from its journal; and the pictures rendered again from that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from polygen_stream.captions.base import Caption
from polygen_stream.captions.journal import JournalEntry
from polygen_stream.config import RunConfig
from polygen_stream.engine.runtime import accelerate
from polygen_stream.export.shards import ShardSample
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.quality import refuse_reasons
from polygen_stream.generators.recipe import load_recipe


def samples_of(entries: Sequence[JournalEntry], negatives: int) -> Iterator[ShardSample]:
    """The pictures of captions, in the order of the journal.

    Args:
        negatives: pictures of a hard negative: the twins of the first positives, with their generators and seeds.
    """
    for entry in entries:
        task, caption = entry.task, entry.outcome
        if not isinstance(caption, Caption):
            continue
        twins = list(zip(task.generators, task.image_seeds, strict=True))
        for member, (generator, seed) in enumerate(twins):
            yield ShardSample(task.task_id, member, False, caption.text, generator, seed)
        if entry.pair:
            for member, (generator, seed) in enumerate(twins[:negatives]):
                yield ShardSample(task.task_id, len(twins) + member, True, caption.negative, generator, seed)


def render(config: RunConfig, samples: Sequence[ShardSample], file: Path, say: Callable[[str], None]) -> np.ndarray:
    """Renders every sample into `file`, which is mapped: it holds uint8 [n, H, W, 3] in the order of the samples.

    One generator after the other, in batches of one size. Returns which samples have a picture, bool [n]: the quality
    gate refuses what a run would have refused.
    """
    size, batch = config.ring.image_size, config.generators.batch
    pictures = np.lib.format.open_memmap(file, "w+", np.uint8, (len(samples), size, size, 3))
    kept = np.zeros(len(samples), bool)
    for index, (name, recipe) in enumerate(zip(config.generators.names, config.generators.recipes, strict=True)):
        mine = [number for number, sample in enumerate(samples) if sample.generator == index]
        if not mine:
            continue
        generator = load_generator(load_recipe(recipe), config.generators.device, size)
        accelerate(generator, config.generators.backend, config.launch.renderer_threads)
        for start in range(0, len(mine), batch):
            part = mine[start : start + batch]
            filled = [samples[number] for number in part + part[-1:] * (batch - len(part))]
            images = generator.render([sample.text for sample in filled], [sample.seed for sample in filled])
            images = images[: len(part)]
            pictures[part] = images
            kept[part] = [reason is None for reason in refuse_reasons(images)]
        say(f"{name}: {len(mine)} pictures, {int((~kept[mine]).sum())} refused")
    pictures.flush()
    return kept
