"""The loss with the first author's options, against loops over the structure that his code describes.

A batch has pairs (a caption and its own hard negative) and singles, which are captions or hard negatives without the
other side. The T- of pairs and their images are one half, everything else the other, T- singles included. The image
rows of a half see the texts of both, its text rows its own images. The halves are added with weight 1, and the
image-image term has every other image as a candidate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_reference import Case

from polygen_stream.train.loss import multi_positive_loss

SCALE, TEMPERATURE = 4.0, 0.1
OPTIONS = {
    "hn_weight": "one",
    "image_image_weight": 1.0,
    "image_image_temperature": TEMPERATURE,
    "image_image_candidates": "all",
}


@dataclass(frozen=True)
class PairedBatch:
    """Numbers of pairs and singles, and images per text."""

    pairs: int
    singles: int
    views: int

    @property
    def case(self) -> Case:
        """Captions first: T+ of pairs, singles, T- of pairs, each with its images."""
        texts = 2 * self.pairs + self.singles
        negative = [False] * (self.pairs + self.singles) + [True] * self.pairs
        return Case([t for t in range(texts) for _ in range(self.views)], negative, list(range(texts)))


def log_softmax(logits: dict[int, float], target: int) -> float:
    return logits[target] - math.log(math.fsum(math.exp(value) for value in logits.values()))


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def expected_loss(batch: PairedBatch, images: list[list[float]], texts: list[list[float]]) -> float:
    first_negative = batch.pairs + batch.singles
    halves = [list(range(first_negative)), list(range(first_negative, len(texts)))]

    def own_images(text: int) -> list[int]:
        return list(range(text * batch.views, (text + 1) * batch.views))

    total = 0.0
    for half in halves:
        if not half:
            continue
        pool = [image for text in half for image in own_images(text)]
        to_text = [
            -log_softmax({t: SCALE * dot(images[r], texts[t]) for t in range(len(texts))}, text)
            for text in half
            for r in own_images(text)
        ]
        to_image = [
            -math.fsum(
                log_softmax({r: SCALE * dot(images[r], texts[text]) for r in pool}, own) for own in own_images(text)
            )
            / batch.views
            for text in half
        ]
        total += (math.fsum(to_text) / len(to_text) + math.fsum(to_image) / len(to_image)) / 2
    anchors = []
    for r, image in enumerate(images):
        partners = [other for other in own_images(r // batch.views) if other != r]
        logits = {o: dot(image, images[o]) / TEMPERATURE for o in range(len(images)) if o != r}
        anchors.append(-math.fsum(log_softmax(logits, p) for p in partners) / len(partners) if partners else 0.0)
    return total + math.fsum(anchors) / len(anchors)


@given(
    pairs=st.integers(0, 4), singles=st.integers(0, 4), views=st.integers(1, 4), seed=st.integers(0, 999),
    chunk=st.sampled_from([0, 3]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_halves_of_pairs_and_singles_are_added(pairs, singles, views, seed, chunk):
    batch = PairedBatch(pairs, max(singles, not pairs), views)
    images, texts = batch.case.features(seed)
    loss, _ = multi_positive_loss(
        images, texts, torch.tensor(SCALE, dtype=torch.float64), batch.case.index, chunk=chunk, **OPTIONS
    )
    assert loss.item() == pytest.approx(expected_loss(batch, images.tolist(), texts.tolist()), rel=0, abs=1e-9)


def test_one_pair_among_many_singles_weighs_as_much_as_all_of_them():
    batch = PairedBatch(pairs=1, singles=9, views=2)
    images, texts = batch.case.features(seed=0)
    scale = torch.tensor(SCALE, dtype=torch.float64)
    losses = {}
    for weight in ("text_share", "one"):
        loss, parts = multi_positive_loss(images, texts, scale, batch.case.index, hn_weight=weight)
        losses[weight] = loss
    half = (parts["negative_i2t"] + parts["negative_t2i"]) / 2
    torch.testing.assert_close(losses["one"] - losses["text_share"], half * (1 - 1 / 10))
