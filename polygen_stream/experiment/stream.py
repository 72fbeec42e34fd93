"""Batches from a ring that the captions of a pool stream through, as if they were rendered during training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import torch

from polygen_stream.assets.resources import recipe_name
from polygen_stream.base.seeding import rng
from polygen_stream.config import RunConfig, curriculum_of
from polygen_stream.experiment.reader import ArmData, endless_order
from polygen_stream.ring import GroupRequest, Kind, Member, Ring, RingSpec, RingTimeout
from polygen_stream.synthesis.choice import choose, task_weight
from polygen_stream.synthesis.policy import NO_WEIGHTS, Weights, ask, load_policy
from polygen_stream.synthesis.rows import FeedbackRows
from polygen_stream.train.batch import TrainBatch
from polygen_stream.train.data import RingReader
from polygen_stream.train.feedback import as_measurement
from polygen_stream.train.model import Tokenizer
from polygen_stream.train.staging import HostStaging
from polygen_stream.train.step import StepResult


class Stream:
    """Batches of an arm from a ring that captions are inserted into while it trains.

    Before every draw, the captions that the rate limiter admits are inserted, one per `arm.reuse` draws. A ring with
    room for all captions of the arm gets each once, and then production is over. A smaller one evicts others when it is
    full, and after the last caption the first one follows. Ring and reader are those of a run, and so is the policy
    that chooses the next caption. With hard negatives, every caption comes with its own.
    """

    def __init__(self, data: ArmData, config: RunConfig, tokenizer: Tokenizer) -> None:
        self._data, self._config, self._tokenizer = data, config, tokenizer
        self._rows = _feedback_rows(data)
        self._ring: Ring | None = None
        self.inserted: list[int] = []  # rows of captions, in their order

    def batches(self) -> Iterator[TrainBatch]:
        """Yield the batches of all steps."""
        config, data = self._config, self._data
        arm, captions = data.arm, data.arm.captions
        self._ring = ring = Ring.create(_ring_spec(data, config))
        try:
            ring.register("trainer", config.name)
            ring.name_feedback_rows(list(self._rows.axes), list(self._rows.concepts))
            reader = RingReader(
                ring, curriculum_of(config), self._tokenizer, HostStaging(), torch.device("cpu"),
                steps=config.train.steps, timeout_s=0.0, stop=lambda: False,
            )  # fmt: skip
            batches = iter(reader)
            produced = self._chosen(ring) if arm.supply else endless_order(captions, config.seed)
            following = enumerate(islice(produced, None if arm.buffer < captions else captions))
            task = next(following)
            for step in range(config.train.steps):
                ring.set_step(step)
                while task and _insert(ring, data, self._rows, row=task[1], task=task[0]):
                    self.inserted.append(task[1])
                    task = next(following, None)
                    if task is None:
                        ring.finish_opening()
                yield next(batches)
        finally:
            self._ring = None
            ring.close()

    def report(self, batch: TrainBatch, result: StepResult) -> None:
        """Add what a step measured to the ring's feedback board."""
        measured = as_measurement(batch, result)
        if self._ring is not None and measured is not None:
            self._ring.add_feedback(measured)

    def _chosen(self, ring: Ring) -> Iterator[int]:
        """Yield rows of captions as the policy of the config wants them; each comes once.

        The candidates are all captions of the supply that are left, in an order of the run's own: with as few as a
        captioner looks at (synthesis.candidates), those that are not wanted would soon be all there is.
        """
        synthesis, seed = self._config.synthesis, self._config.seed
        policy = load_policy(synthesis)
        waiting = rng(seed, "pass", 0).permutation(len(self._data.captions)).tolist()
        for number in count():
            weights = ask(policy, ring.read_feedback(), synthesis)
            if weights == NO_WEIGHTS:
                yield waiting.pop(0)
                continue
            among = [self._weight(weights, row) for row in waiting]
            yield waiting.pop(choose(among, synthesis.uniform_share, seed, "choice", number))

    def _weight(self, weights: Weights, row: int) -> float:
        caption = self._data.captions[row]
        names = [recipe_name(self._data.ensemble[generator]) for generator in self._data.generators[row]]
        return task_weight(weights, self._rows, caption.axis, caption.concept, names)


def _ring_spec(data: ArmData, config: RunConfig) -> RingSpec:
    arm, images = data.arm, data.arm.images_per_caption * len(data.sides)
    return RingSpec(
        slots=arm.buffer * images,
        image_shape=_image_shape(data),
        groups=arm.buffer,
        members=images,
        caption_bytes=config.ring.caption_bytes,
        generators=tuple(map(recipe_name, data.ensemble)),
        seed=config.seed,
        min_fill=arm.start or arm.buffer,
        samples_per_insert=arm.reuse,
        error_buffer=config.train.batch + arm.reuse,
        max_open=1,
        catch_up=config.ring.catch_up,
        expected_groups=arm.captions,
        images_per_draw=arm.positives,
        feedback_half_life=config.synthesis.half_life,
    )


def _feedback_rows(data: ArmData) -> FeedbackRows:
    axes, concepts = ({getattr(caption, name) for caption in data.captions} for name in ("axis", "concept"))
    return FeedbackRows.of_source(sorted(axes), sorted(concepts))


def _image_shape(data: ArmData) -> tuple[int, int, int]:
    height, width, channels = data.images(np.zeros(1, np.int64), np.zeros(1, np.int64)).shape[2:]
    return height, width, channels


def _insert(ring: Ring, data: ArmData, rows: FeedbackRows, row: int, task: int) -> bool:
    """Insert a caption with its images, T+ first; False when the ring has no room for it yet."""
    caption, generators = data.captions[row], data.generators[row].tolist()
    negative = caption.negative if len(data.sides) == 2 else None
    kind = Kind.PLAIN if negative is None else Kind.PAIR
    members = [Member(generator, side, 0) for side in data.sides for generator in generators]
    try:
        axis, concept = rows.of(caption.axis, caption.concept)
        request = GroupRequest(task, kind, caption.text, negative, members, axis=axis, concept=concept)
        ring.open_groups([request], timeout_s=0.0)
    except RingTimeout:
        return False
    images = np.concatenate(list(data.images(np.full(len(data.sides), row), np.array(data.sides))))
    while claims := ring.claim(range(len(data.ensemble)), len(members)):
        ring.commit(claims, images[[claim.member for claim in claims]])
    return True
