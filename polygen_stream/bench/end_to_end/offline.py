"""The pipeline that `bench end-to-end` is compared with: render everything into shards, then train with a DataLoader.

Its dataset is what a streaming run wrote in its journal, so that both train on the same captions, hard negatives, seeds
and pictures; model, loss, optimizer and curriculum are the trainer's.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from polygen_stream.base.seeding import key
from polygen_stream.bench.latency_stubs.roles import Latency, painted
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.experiment.reader import endless_order
from polygen_stream.export.reading import read_tasks
from polygen_stream.export.shards import ShardSample, ShardWriter
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.batch import TrainBatch, build_index, text_id
from polygen_stream.train.model import initial_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import prefer_plain_attention
from polygen_stream.train.step import train_step

PER_SHARD = 1000

# mix, images uint8 [N, H, W, 3], texts, images of each text, tasks, those of the pairs, generator of each image
Drawn = tuple[DrawMix, torch.Tensor, list[str], list[int], list[int], list[int], list[int]]


def render_all(config: RunConfig, samples: Sequence[ShardSample], latency: Latency, folder: Path) -> float:
    """Renders all samples, each generator on a device of its own, and writes them into shards; the seconds it took."""
    began = time.monotonic()
    size, batch = config.ring.image_size, config.generators.batch
    pictures = np.empty((len(samples), size, size, 3), np.uint8)

    def device(generator: int) -> None:
        mine = [number for number, sample in enumerate(samples) if sample.generator == generator]
        image_s, free_at = latency.image_s[config.generators.names[generator]], time.monotonic()
        for start in range(0, len(mine), batch):
            part = mine[start : start + batch]
            for number in part:
                pictures[number] = painted(samples[number].text, samples[number].seed, size)
            free_at += latency.call_s + image_s * len(part)
            time.sleep(max(0.0, free_at - time.monotonic()))

    devices = [threading.Thread(target=device, args=(number,)) for number in range(len(config.generators.names))]
    for thread in devices:
        thread.start()
    for thread in devices:
        thread.join()
    by_task: dict[int, list[int]] = defaultdict(list)
    for number, sample in enumerate(samples):
        by_task[sample.task_id].append(number)
    writer = ShardWriter(folder, config.generators.names, PER_SHARD)
    for numbers in by_task.values():
        writer.write([samples[number] for number in numbers], [pictures[number] for number in numbers])
    writer.publish()
    return time.monotonic() - began


def train_from_shards(config: RunConfig, folder: Path, every: int) -> tuple[list[float], dict[int, dict[str, Any]]]:
    """Trains on the shards; the second at which every step ended, and the weights after every `every` steps, by step.

    One worker process decodes and collates ahead. Step 0 are the untrained weights.
    """
    began = time.monotonic()
    device = torch.device(config.train.device)
    torch.set_num_threads(config.launch.trainer_threads)
    prefer_plain_attention(device)
    model, tokenizer = initial_clip(config.train, config.seed, device)
    optimizer = build_optimizer(model, config.train)
    model.train()
    ended, weights = [], {0: _copy(model)}
    for mix, images, texts, counts, tasks, pair_tasks, generators in DataLoader(
        _Batches(config, folder), batch_size=None, num_workers=1, prefetch_factor=8, multiprocessing_context="spawn"
    ):
        step = len(ended)
        torch.manual_seed(key(config.seed, "step", step, 0) >> 1)
        ids = [text_id(task, False) for task in tasks] + [text_id(task, True) for task in pair_tasks]
        index, image_ids = build_index(texts, counts, ids, len(pair_tasks))
        batch = TrainBatch(
            step, mix, images.to(device), tokenizer(texts).to(device), index.to(device), tuple(texts), image_ids,
            tuple(generators), None, 0.0,
        )  # fmt: skip
        train_step(model, optimizer, batch, config)
        ended.append(time.monotonic() - began)
        if (step + 1) % every == 0:
            weights[step + 1] = _copy(model)
    return ended, weights


def _copy(model: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class _Batches(IterableDataset):
    def __init__(self, config: RunConfig, folder: Path) -> None:
        self._config, self._folder = config, folder

    def __iter__(self) -> Iterator[Drawn]:
        return shard_batches(self._config, self._folder)


def shard_batches(config: RunConfig, folder: Path) -> Iterator[Drawn]:
    """A batch for every step: the curriculum's mix, captions of either kind in passes, each in an order of its own."""
    captions = list(read_tasks(folder, config.generators.names))
    plain, paired = (
        _Passes([task for task in captions if any(sample.negative for sample in task) is has], config.seed)
        for has in (False, True)
    )
    curriculum = curriculum_of(config)
    for step in range(config.train.steps):
        mix, used = curriculum.draw(step), set()
        pairs = paired.take(mix.pair, used)
        plains = plain.take(min(mix.plain, len(plain)), used)
        # Captions with a negative serve as plain ones where these are too few, as in the ring.
        plains += paired.take(mix.plain - len(plains), used)
        rows = [(task, False) for task in (*plains, *pairs)] + [(task, True) for task in pairs]
        shown = [[sample for sample in task if sample.negative is negative] for task, negative in rows]
        images = np.stack([sample.image(config.ring.image_size) for samples in shown for sample in samples])
        yield (
            mix,
            torch.from_numpy(images),
            [samples[0].text for samples in shown],
            [len(samples) for samples in shown],
            [task[0].task_id for task in (*plains, *pairs)],
            [task[0].task_id for task in pairs],
            [sample.generator for samples in shown for sample in samples],
        )


class _Passes:
    """Tasks in passes; a task whose texts are in the batch already waits for the next one."""

    def __init__(self, tasks: Sequence[list[Any]], seed: int) -> None:
        self._tasks, self._order = tasks, endless_order(len(tasks), seed)
        self._aside: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, count: int, used: set[str]) -> list[list[Any]]:
        """Adds the texts of what it takes to `used`."""
        taken, later = [], []
        waiting = list(self._aside)
        self._aside.clear()
        while len(taken) < count:
            row = waiting.pop(0) if waiting else next(self._order)
            texts = {sample.text for sample in self._tasks[row]}
            if used.isdisjoint(texts):
                used |= texts
                taken.append(self._tasks[row])
            else:
                later.append(row)
        self._aside.extend(later + waiting)
        return taken
