"""Batches from a pool: passes over all captions of an arm, or a ring that the captions stream through."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch

from polygen_stream.assets.resources import recipe_name
from polygen_stream.base.seeding import key, rng
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.experiment.pool import ImagePool
from polygen_stream.experiment.spec import Arm
from polygen_stream.ring import GroupRequest, Kind, Member, Ring, RingSpec, RingTimeout
from polygen_stream.train.data import RingReader, TrainBatch, build_index
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.staging import HostStaging


class ArmData:
    """The captions and images of one run.

    Args:
        pool: the rendered pool.
        arm: what the run trains on.
        seed: of the run. It chooses the ensemble, and the generator of image j of each caption.
        negatives: whether the run draws hard negatives.
    """

    def __init__(self, pool: ImagePool, arm: Arm, seed: int, negatives: bool) -> None:
        self.arm, self.captions = arm, pool.captions[: arm.captions]
        self.ensemble = arm.ensemble(seed)
        m, n = len(self.ensemble), arm.positives
        tasks = [caption.task_id for caption in self.captions]
        orders = [sorted(range(m), key=lambda g: (key(seed, "ensemble", task, g), g)) for task in tasks]
        self.generators = np.array([[order[j % m] for j in range(n)] for order in orders])  # [captions, n+]
        self._images = {kind: self._gather(pool, kind) for kind in ((False, True) if negatives else (False,))}

    def images(self, rows: list[int], negatives: bool) -> np.ndarray:
        """Return uint8 [rows, n+, H, W, 3] of T+ or T-."""
        return self._images[negatives][rows]

    def _gather(self, pool: ImagePool, negatives: bool) -> np.ndarray:
        m = len(self.ensemble)
        shape = pool.images(self.ensemble[0], negatives, 0).shape[1:]
        out = np.empty((*self.generators.shape, *shape), np.uint8)
        for j in range(self.arm.positives):
            for g, name in enumerate(self.ensemble):
                rows = np.flatnonzero(self.generators[:, j] == g)
                out[rows, j] = pool.images(name, negatives, j // m)[rows]
        return out


def passes(data: ArmData, config: RunConfig, tokenizer: Tokenizer) -> Iterator[TrainBatch]:
    """Yield the batches of all steps from passes over the captions; no caption is twice in a batch.

    Each pass has an order of its own.
    """
    captions, n = data.captions, data.arm.positives
    tokens = tokenizer([caption.text for caption in captions])
    negative_tokens = tokenizer([caption.negative for caption in captions])
    curriculum, order = curriculum_of(config), endless_order(len(captions), config.seed)
    postponed: deque[int] = deque()  # captions that came twice within a batch, where two passes meet
    for step in range(config.train.steps):
        mix = curriculum.draw(step)
        rows: list[int] = []
        later: deque[int] = deque()
        while len(rows) < mix.plain + mix.pair:
            row = postponed.popleft() if postponed else next(order)
            (later if row in rows else rows).append(row)
        postponed.extendleft(reversed(later))
        pairs = rows[mix.plain :]
        texts = [captions[row].text for row in rows] + [captions[row].negative for row in pairs]
        index, image_ids = build_index(
            texts,
            [n] * len(texts),
            [captions[row].task_id for row in rows],
            [captions[row].task_id for row in pairs],
        )
        images = [data.images(rows, False)]
        if pairs:
            images.append(data.images(pairs, True))
        yield TrainBatch(
            step=step,
            mix=mix,
            images=torch.from_numpy(np.concatenate(images)).flatten(0, 1),
            tokens=torch.cat([tokens[rows], negative_tokens[pairs]]),
            index=index,
            texts=tuple(texts),
            image_ids=image_ids,
            generators=tuple(data.generators[[*rows, *pairs]].flatten().tolist()),
            draw_record=None,
            waited_s=0.0,
        )


def through_ring(data: ArmData, config: RunConfig, tokenizer: Tokenizer) -> Iterator[TrainBatch]:
    """Yield the batches of all steps from a ring of `arm.buffer` captions with one insert per `arm.reuse` draws.

    Before every draw, the captions that the rate limiter admits are inserted and a full ring evicts others; after the
    last caption of the arm the first one follows. Ring and reader are those of a run. Positives only.
    """
    arm = data.arm
    spec = RingSpec(
        slots=arm.buffer * arm.positives,
        image_shape=_image_shape(data),
        groups=arm.buffer,
        members=arm.positives,
        caption_bytes=config.ring.caption_bytes,
        generators=tuple(map(recipe_name, data.ensemble)),
        seed=config.seed,
        min_fill=arm.start or arm.buffer,
        samples_per_insert=arm.reuse,
        error_buffer=config.train.batch + arm.reuse,
        max_open=1,
    )
    ring = Ring.create(spec)
    try:
        ring.register("trainer", config.name)
        reader = RingReader(
            ring, curriculum_of(config), tokenizer, HostStaging(), torch.device("cpu"),
            steps=config.train.steps, timeout_s=0.0, stop=lambda: False,
        )  # fmt: skip
        order, batches = endless_order(len(data.captions), config.seed), iter(reader)
        tasks = count()
        row, task = next(order), next(tasks)
        for step in range(config.train.steps):
            ring.set_step(step)
            while _insert(ring, data, row, task):
                row, task = next(order), next(tasks)
            yield next(batches)
    finally:
        ring.close()


def endless_order(captions: int, seed: int) -> Iterator[int]:
    """Yield the rows of one pass after the other, each pass in an order of its own, without end."""
    for number in count():
        yield from rng(seed, "pass", number).permutation(captions).tolist()


def _image_shape(data: ArmData) -> tuple[int, int, int]:
    height, width, channels = data.images([0], False).shape[2:]
    return height, width, channels


def _insert(ring: Ring, data: ArmData, row: int, task: int) -> bool:
    """Insert a caption with its images; False when the ring has no room for it yet."""
    members = [Member(int(generator), 0, 0) for generator in data.generators[row]]
    try:
        ring.open_groups([GroupRequest(task, Kind.PLAIN, data.captions[row].text, None, members)], timeout_s=0.0)
    except RingTimeout:
        return False
    [images] = data.images([row], False)
    while claims := ring.claim(range(len(data.ensemble)), len(members)):
        ring.commit(claims, images[[claim.member for claim in claims]])
    return True
