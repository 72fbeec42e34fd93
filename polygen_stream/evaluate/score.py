"""Scores a CLIP on the micro world's test set."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polygen_stream.evaluate.metrics import (
    class_features,
    compositional_accuracy,
    recall_at_k,
    zero_shot_accuracy,
)
from polygen_stream.evaluate.micro_suite import MicroSuite, colour_prompts, thing_prompts
from polygen_stream.micro.edits import EDITS
from polygen_stream.train.augment import preprocess
from polygen_stream.train.model import Tokenizer, image_size

BATCH = 256


class Scorer:
    """One open_clip model in eval mode with its tokenizer, encoding in batches."""

    def __init__(self, model: torch.nn.Module, tokenizer: Tokenizer, device: str) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.size = image_size(model)

    @torch.inference_mode()
    def score(self, suite: MicroSuite) -> dict[str, object]:
        """Every score of the suite, with the keys of `micro_suite.chance`."""
        single, retrieval, pairs = suite.classification, suite.retrieval, suite.compositional
        images = self.images(single.images)
        found_images, found_texts = self.images(retrieval.images), self.texts(retrieval.captions)
        right = compositional_accuracy(
            self.images(pairs.images), self.texts(pairs.captions), self.texts(pairs.negatives)
        )
        names = np.array(pairs.edits)
        by_edit = {e: right[torch.from_numpy(names == e)].float().mean().item() for e in EDITS}
        return {
            "zero_shot_things": zero_shot_accuracy(
                images, self.classes(thing_prompts()), torch.from_numpy(single.things)
            ),
            "zero_shot_colours": zero_shot_accuracy(
                images, self.classes(colour_prompts()), torch.from_numpy(single.colours)
            ),
            "retrieval_i2t_r1": recall_at_k(found_images, found_texts, 1),
            "retrieval_t2i_r1": recall_at_k(found_texts, found_images, 1),
            # the mean over edit types: each weighs the same however many pairs it has
            "compositional": sum(by_edit.values()) / len(by_edit),
            "compositional_by_edit": by_edit,
        }

    def images(self, images: np.ndarray) -> Tensor:
        """Features [n, d] of uint8 [n, h, w, 3]."""
        parts = torch.from_numpy(images).to(self.device).split(BATCH)
        return torch.cat([F.normalize(self.model.encode_image(preprocess(p, self.size)), dim=-1) for p in parts]).cpu()

    def texts(self, texts: list[str]) -> Tensor:
        """Features [n, d] of n texts."""
        parts = self.tokenizer(texts).to(self.device).split(BATCH)
        return torch.cat([F.normalize(self.model.encode_text(p), dim=-1) for p in parts]).cpu()

    def classes(self, prompts: list[list[str]]) -> Tensor:
        """Features [c, d] of c classes with equally many prompts each."""
        flat = self.texts([p for group in prompts for p in group])
        return class_features(flat.view(len(prompts), len(prompts[0]), -1))
