"""Every image of a run as (caption, generator, seed), from its journal, and the images rendered again from that."""

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


def journal_samples(entries: Sequence[JournalEntry], negatives: int) -> Iterator[ShardSample]:
    """List the images of captions, in the order of the journal.

    Args:
        entries: of the journal.
        negatives: images of a hard negative: the twins of the first positives, with their generators and seeds.
    """
    for entry in entries:
        task, caption = entry.task, entry.outcome
        if not isinstance(caption, Caption):
            continue
        positives = list(zip(task.generators, task.image_seeds, strict=True))
        for member, (generator, seed) in enumerate(positives):
            yield ShardSample(task.task_id, member, False, caption.text, generator, seed)
        if entry.pair:
            assert caption.negative is not None, f"task {task.task_id} is a pair without a negative caption"
            for member, (generator, seed) in enumerate(positives[:negatives], start=len(positives)):
                yield ShardSample(task.task_id, member, True, caption.negative, generator, seed)


def render_samples(
    config: RunConfig, samples: Sequence[ShardSample], file: Path, progress: Callable[[str], None]
) -> np.ndarray:
    """Render every sample into a file, one generator after the other, in batches of one size.

    Args:
        config: of the run.
        samples: n samples.
        file: written as a .npy array of uint8 [n, H, W, 3], in the order of the samples.
        progress: called with one line per generator.

    Returns:
        bool [n], which samples pass the quality gate.
    """
    size, batch = config.ring.image_size, config.generators.batch
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (len(samples), size, size, 3))
    kept = np.zeros(len(samples), bool)
    for index, (name, recipe) in enumerate(zip(config.generators.names, config.generators.recipes, strict=True)):
        numbers = [number for number, sample in enumerate(samples) if sample.generator == index]
        if not numbers:
            continue
        generator = load_generator(load_recipe(recipe), config.generators.device, size)
        accelerate(generator, config.generators.backend, config.launch.renderer_threads)
        for start in range(0, len(numbers), batch):
            part = numbers[start : start + batch]
            padded = [samples[number] for number in part + part[-1:] * (batch - len(part))]
            rendered = generator.render([sample.text for sample in padded], [sample.seed for sample in padded])
            rendered = rendered[: len(part)]
            images[part] = rendered
            kept[part] = [reason is None for reason in refuse_reasons(rendered)]
        progress(f"{name}: {len(numbers)} images, {int((~kept[numbers]).sum())} refused")
    images.flush()
    return kept
