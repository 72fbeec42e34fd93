"""Scores a CLIP on the test set of the micro world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.metrics import more_similar, ranks
from polygen_stream.evaluate.micro_suite import CHANCE, MicroSuite, colour_prompts, thing_prompts
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.micro.edits import EDITS


@dataclass(frozen=True)
class SuiteScores:
    """Scores of one split.

    Attributes:
        scores: one for each key of `micro_suite.CHANCE`.
        by_edit: compositional score of each edit.
        correct: bool [items] for each key of `micro_suite.CHANCE`, in the order of the suite's pictures.
    """

    scores: dict[str, Score]
    by_edit: dict[str, Score]
    correct: dict[str, np.ndarray]

    def values(self) -> dict[str, object]:
        """Return the scores alone, as in eval.jsonl."""
        by_edit = {edit: score.score for edit, score in self.by_edit.items()}
        return {**{name: score.score for name, score in self.scores.items()}, "compositional_by_edit": by_edit}

    def intervals(self) -> dict[str, object]:
        """Return [low, high] of every score, with the keys of `values`."""
        by_edit = {edit: [score.low, score.high] for edit, score in self.by_edit.items()}
        limits = {name: [score.low, score.high] for name, score in self.scores.items()}
        return {**limits, "compositional_by_edit": by_edit}


def score_suite(encoder: Encoder, suite: MicroSuite) -> SuiteScores:
    """Score an encoder on one split of the test set."""
    single, retrieval, pairs = suite.classification, suite.retrieval, suite.compositional
    images = encoder.images(single.images)
    pair_images, pair_texts = encoder.images(retrieval.images), encoder.texts(retrieval.captions)
    own = torch.arange(len(pair_images))
    closer = more_similar(encoder.images(pairs.images), encoder.texts(pairs.captions), encoder.texts(pairs.negatives))
    names = np.array(pairs.edits)
    by_edit = {edit: proportion(closer.numpy()[names == edit], 0.5) for edit in EDITS}
    correct = {
        "zero_shot_things": ranks(images, encoder.classes(thing_prompts()), torch.from_numpy(single.things)) == 1,
        "zero_shot_colours": ranks(images, encoder.classes(colour_prompts()), torch.from_numpy(single.colours)) == 1,
        "retrieval_i2t_r1": ranks(pair_images, pair_texts, own) == 1,
        "retrieval_t2i_r1": ranks(pair_texts, pair_images, own) == 1,
    }
    answers = {name: right.numpy() for name, right in correct.items()}
    scores = {name: proportion(right, CHANCE[name]) for name, right in answers.items()}
    # The mean over edits: each has the same weight, whatever its number of pairs.
    scores["compositional"] = mean_of(list(by_edit.values()))
    return SuiteScores(scores, by_edit, {**answers, "compositional": closer.numpy()})
