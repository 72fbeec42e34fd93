"""The data of an arm, and batches from passes over its captions; stream.py has those from a ring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from math import ceil

import numpy as np
import torch

from polygen_stream.base.seeding import key, rng
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.experiment.pool import ImagePool
from polygen_stream.experiment.spec import Arm
from polygen_stream.ring.views import chosen_views
from polygen_stream.schedule.co_occurrence import epoch_batches
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.batch import TrainBatch, build_index, text_id
from polygen_stream.train.model import Tokenizer


class ArmData:
    """The captions and images of one run.

    Args:
        pool: the rendered pool.
        arm: what the run trains on.
        seed: of the run. It chooses the ensemble, and the generator of image j of each caption.
        negatives: whether the run draws hard negatives.
    """

    def __init__(self, pool: ImagePool, arm: Arm, seed: int, negatives: bool) -> None:
        self.arm, self.captions = arm, pool.captions[: max(arm.captions, arm.supply)]
        self.ensemble = arm.ensemble(seed)
        m, n = len(self.ensemble), arm.images_per_caption
        tasks = [caption.task_id for caption in self.captions]
        orders = [sorted(range(m), key=lambda g: (key(seed, "ensemble", task, g), g)) for task in tasks]
        self.generators = np.array([[order[j % m] for j in range(n)] for order in orders])  # [captions, V]
        self.sides = (0, 1) if negatives else (0,)  # T+ and T-
        self._images = {side: self._gather(pool, bool(side)) for side in self.sides}

    def images(self, rows: np.ndarray, polarity: np.ndarray) -> np.ndarray:
        """Return all images of some texts, uint8 [n, V, H, W, 3].

        Args:
            rows: captions, int64 [n].
            polarity: 0 for T+ and 1 for T- of each, int64 [n].
        """
        out = np.empty((len(rows), *self._images[0].shape[1:]), np.uint8)
        for side, images in self._images.items():
            out[polarity == side] = images[rows[polarity == side]]
        return out

    def _gather(self, pool: ImagePool, negatives: bool) -> np.ndarray:
        m = len(self.ensemble)
        shape = pool.images(self.ensemble[0], negatives, 0).shape[1:]
        out = np.empty((*self.generators.shape, *shape), np.uint8)
        for j in range(self.arm.images_per_caption):
            for g, name in enumerate(self.ensemble):
                rows = np.flatnonzero(self.generators[:, j] == g)
                out[rows, j] = pool.images(name, negatives, j // m)[rows]
        return out


@dataclass(frozen=True)
class _Texts:
    """The texts of a batch: captions of which one text is shown, and captions of which both are.

    Attributes:
        mix: what the curriculum asked for.
        singles: captions, int64 [n].
        negative: whether T- of each is shown instead of T+, bool [n].
        pairs: captions, int64 [k].
    """

    mix: DrawMix
    singles: np.ndarray
    negative: np.ndarray
    pairs: np.ndarray


def passes(data: ArmData, config: RunConfig, tokenizer: Tokenizer) -> Iterator[TrainBatch]:
    """Yield the batches of all steps from passes over the captions; no text is twice in a batch.

    Each pass has an order of its own.
    """
    captions, n = data.captions, config.train.images_per_text
    tasks = np.array([caption.task_id for caption in captions])
    written = [[caption.text for caption in captions], [caption.negative or "" for caption in captions]]
    tokens = torch.stack([tokenizer(texts) for texts in written])  # [2, captions, context length]
    draws = np.zeros((2, len(captions)), np.int64)  # of T+ and T- of each caption
    for step, batch in enumerate(_texts_of_steps(len(captions), config)):
        rows = np.concatenate([batch.singles, batch.pairs, batch.pairs])
        both = np.arange(len(batch.pairs)) < 0
        polarity = np.concatenate([batch.negative, both, ~both]).astype(np.int64)
        there = np.ones((len(rows), data.generators.shape[1]), bool)
        shown = np.empty_like(there)
        for side in range(2):
            of = polarity == side
            shown[of] = chosen_views(config.seed, side, tasks[rows[of]], draws[side, rows[of]], there[of], n)
            draws[side, rows[of]] += 1
        texts = [written[side][row] for row, side in zip(rows.tolist(), polarity.tolist(), strict=True)]
        ids = [text_id(int(tasks[row]), bool(side)) for row, side in zip(rows.tolist(), polarity.tolist(), strict=True)]
        index, image_ids = build_index(texts, shown.sum(axis=1).tolist(), ids, len(batch.pairs))
        yield TrainBatch(
            step=step,
            mix=batch.mix,
            images=torch.from_numpy(data.images(rows, polarity)[shown]),
            tokens=tokens[polarity, rows],
            index=index,
            texts=tuple(texts),
            image_ids=image_ids,
            generators=tuple(data.generators[rows][shown].tolist()),
            draw_record=None,
            waited_s=0.0,
        )


def _texts_of_steps(captions: int, config: RunConfig) -> Iterator[_Texts]:
    mixes = _by_co_occurrence if config.curriculum.kind == "co_occurrence" else _by_share
    return islice(mixes(captions, config), config.train.steps)


def _by_share(captions: int, config: RunConfig) -> Iterator[_Texts]:
    """Yield the texts of every step in the mix of the curriculum, in passes over the captions."""
    curriculum, order = curriculum_of(config), endless_order(captions, config.seed)
    postponed: deque[int] = deque()  # captions that came twice within a batch, where two passes meet
    for step in count():
        mix = curriculum.draw(step)
        rows: list[int] = []
        later: deque[int] = deque()
        while len(rows) < mix.plain + mix.pair:
            row = postponed.popleft() if postponed else next(order)
            (later if row in rows else rows).append(row)
        postponed.extendleft(reversed(later))
        drawn = np.array(rows, np.int64)
        yield _Texts(mix, drawn[: mix.plain], np.zeros(mix.plain, bool), drawn[mix.plain :])


def _by_co_occurrence(captions: int, config: RunConfig) -> Iterator[_Texts]:
    """Yield the texts of every step, epoch by epoch, each of 2 x captions / B steps less what its last batches lack."""
    curriculum, texts = curriculum_of(config), config.train.batch
    steps = 2 * captions / texts
    for epoch in count():

        def share(behind: float, epoch: int = epoch) -> float:
            return curriculum.share(ceil((epoch + behind) * steps))

        for batch in epoch_batches(captions, texts, share, rng(config.seed, "epoch", epoch)):
            pairs = len(batch.pairs)
            yield _Texts(DrawMix(texts - 2 * pairs, pairs, batch.share), batch.singles, batch.negative, batch.pairs)


def endless_order(captions: int, seed: int) -> Iterator[int]:
    """Yield the rows of one pass after the other, each pass in an order of its own, without end."""
    for number in count():
        yield from rng(seed, "pass", number).permutation(captions).tolist()
