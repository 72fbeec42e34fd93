"""The training data of one step: images, tokens, and which image shows which text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polygen_stream.base.seeding import key
from polygen_stream.ring import DrawRecord
from polygen_stream.schedule.curriculum import DrawMix
from polygen_stream.train.staging import ON_HOST, Staged
from polygen_stream.train.text_image_index import TextImageIndex

_MAX_IMAGES_PER_TEXT = 1 << 10  # the config allows no more


@dataclass(frozen=True)
class TrainBatch:
    """The training data of one step: N images and T texts, positives before negatives in both.

    T- that was drawn without its T+ is among the positives, as in the loss of PolyGen's first author.

    Args:
        step: the step that the batch was drawn for.
        mix: what the curriculum asked for.
        images: uint8 [N, H, W, 3] on the device.
        tokens: int64 [T, context length] on the device.
        index: which image shows which text, and which texts are T-; on the device.
        texts: the captions: T+, T- without their T+, then T- of pairs.
        image_ids: int64 [N] on the host, unique among the images of the step and the same on every rank.
        generators: index of the generator of each image, N entries.
        draw_record: what the draw log says of the step. On the leader of several ranks it covers the batch of all of
            them. None for a batch that does not come from a ring.
        waited_s: seconds of waiting for the ring and for other ranks.
        load_wait_s: seconds that training waited, besides, until the batch was read from the ring and tokenised.
        feedback_rows: int64 [N, 3] on the host, the rows of the ring's feedback board for each image: axis, concept,
            generator; -1 = none. None for a batch that does not come from a ring: nothing is measured of it.
        leftover: counts of the leftover queue after the draw, if the reader has one.
        staged: the copy of the batch to the device, which `train_step` waits for.
    """

    step: int
    mix: DrawMix
    images: Tensor
    tokens: Tensor
    index: TextImageIndex
    texts: tuple[str, ...]
    image_ids: Tensor
    generators: tuple[int, ...]
    draw_record: DrawRecord | None
    waited_s: float
    load_wait_s: float = 0.0
    feedback_rows: np.ndarray | None = None
    leftover: dict[str, dict[str, int]] | None = None
    staged: Staged = ON_HOST

    def wait_until_there(self) -> None:
        """Let the device's current stream wait until the batch is there."""
        index = self.index
        self.staged.wait(self.tokens, index.image_text, index.text_negative, index.text_caption)


def text_id(task: int, negative: bool) -> int:
    """Return a number for T+ or T- of a task that no other text of the run has."""
    return 2 * task + negative


def build_index(
    texts: Sequence[str], image_counts: Sequence[int], text_ids: Sequence[int], pairs: int
) -> tuple[TextImageIndex, Tensor]:
    """Build a batch's text-image index on the host, and its image ids, int64 [N].

    Args:
        texts: T texts, T- of the pairs last.
        image_counts: number of images of each text; images are in the order of the texts.
        text_ids: of each text, unique in the run.
        pairs: number of pairs.
    """
    counts = torch.tensor(image_counts)  # [T]
    image_text = torch.repeat_interleave(torch.arange(len(texts)), counts)  # [N]
    ids = torch.tensor(text_ids)  # [T]
    number = torch.arange(len(image_text)) - (counts.cumsum(0) - counts)[image_text]  # [N], among the text's images
    text_negative = torch.arange(len(texts)) >= len(texts) - pairs
    # 63 bits of a hash, so that all ranks agree. Two nodes may draw one caption, and so may a batch of other sides.
    text_caption = torch.tensor([key(text) >> 1 for text in texts])
    index = TextImageIndex.from_tensors(image_text, text_negative, text_caption)
    return index, ids[image_text] * _MAX_IMAGES_PER_TEXT + number
