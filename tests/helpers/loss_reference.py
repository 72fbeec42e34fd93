"""The losses in plain Python floats, one exponential at a time, and random batches to compare on.

Nothing here knows of tensors, masks, chunks or ranks: the formulas are those of the papers that train/loss.py cites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from polygen_stream.train.text_image_index import TextImageIndex

Vectors = list[list[float]]


@dataclass(frozen=True)
class Case:
    """A batch: which text each image shows, which texts are negatives, and what they say (equal = equal words)."""

    image_text: list[int]
    negative: list[bool]
    caption: list[int]

    @property
    def index(self) -> TextImageIndex:
        return TextImageIndex.from_tensors(*map(torch.tensor, (self.image_text, self.negative, self.caption)))

    def features(self, seed: int, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors, float64: images [N, dim] and texts [T, dim]."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(len(self.image_text) + len(self.negative), dim, generator=generator, dtype=torch.float64)
        images, texts = torch.nn.functional.normalize(x, dim=1).split([len(self.image_text), len(self.negative)])
        return images.clone(), texts.clone()


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def cross_entropy(row: dict[int, float], targets: list[int]) -> float:
    """Of the softmax over a row {column: logit} and the uniform distribution over `targets`."""
    if not targets:
        return 0.0
    everything = math.fsum(math.exp(logit) for logit in row.values())
    return -mean([math.log(math.exp(row[t]) / everything) for t in targets])


def reference_loss(
    images: Vectors,
    texts: Vectors,
    scale: float,
    case: Case,
    *,
    objective: str = "multi_positive",
    hn_t2i: str = "same_polarity",
    hn_weight: str = "text_share",
    image_image_candidates: str = "hn_t2i",
    image_image_weight: float = 0.0,
    image_image_temperature: float = 0.1,
    image_image_features: Vectors | None = None,
) -> float:
    image_range, text_range = range(len(images)), range(len(texts))
    of_image = [case.negative[t] for t in case.image_text]  # polarity
    said = [case.caption[t] for t in case.image_text]
    mixed = objective == "infonce" or (objective == "multi_positive" and hn_t2i == "all")

    def i2t(r: int) -> float:
        row = {t: scale * dot(images[r], texts[t]) for t in text_range}
        return cross_entropy(row, [t for t in text_range if case.caption[t] == said[r]])

    def t2i(t: int) -> float:
        pool = [r for r in image_range if mixed or of_image[r] == case.negative[t]]
        row = {r: scale * dot(images[r], texts[t]) for r in pool}
        return cross_entropy(row, [r for r in pool if said[r] == case.caption[t]])

    def i2i(r: int) -> float:
        free = mixed or image_image_candidates == "all"
        vectors = images if image_image_features is None else image_image_features
        pool = [other for other in image_range if other != r and (free or of_image[other] == of_image[r])]
        row = {other: dot(vectors[r], vectors[other]) / image_image_temperature for other in pool}
        return cross_entropy(row, [other for other in pool if said[other] == said[r]])

    def side(negative: bool) -> tuple[list[int], list[int]]:
        return [r for r in image_range if of_image[r] == negative], [
            t for t in text_range if case.negative[t] == negative
        ]

    positive_images, positive_texts = side(False)
    negative_images, negative_texts = side(True)
    if objective == "infonce":
        loss = (mean([i2t(r) for r in image_range]) + mean([t2i(t) for t in text_range])) / 2
    else:
        loss = (mean([i2t(r) for r in positive_images]) + mean([t2i(t) for t in positive_texts])) / 2
        if objective == "multi_positive" and negative_texts:
            half = mean([i2t(r) for r in negative_images]) / 2
            if hn_t2i != "none":
                half += mean([t2i(t) for t in negative_texts]) / 2
            loss += (1 if hn_weight == "one" else len(negative_texts) / len(positive_texts)) * half
    if image_image_weight:
        anchors = positive_images if objective == "negclip" else list(image_range)
        loss += image_image_weight * mean([i2i(r) for r in anchors])
    return loss
