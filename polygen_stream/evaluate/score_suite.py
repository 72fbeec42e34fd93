"""Scores a CLIP on the test set of the micro world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.metrics import more_similar, ranks, text_only
from polygen_stream.evaluate.micro_suite import CHANCE, EditedPairs, MicroSuite, colour_prompts, thing_prompts
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.micro.edits import EDITS


@dataclass(frozen=True)
class SuiteScores:
    """Scores of one split.

    Attributes:
        scores: one for each key of `micro_suite.CHANCE`.
        by_edit: compositional score of each edit.
        itt_by_edit: image-to-text score of micro SugarCrepe++ of each edit.
        correct: bool [items] for each key of `micro_suite.CHANCE`, in the order of the suite's pictures.
    """

    scores: dict[str, Score]
    by_edit: dict[str, Score]
    itt_by_edit: dict[str, Score]
    correct: dict[str, np.ndarray]

    def values(self) -> dict[str, object]:
        """Return the scores alone, as in eval.jsonl."""
        by_edit = {name: {edit: one.score for edit, one in found.items()} for name, found in self._by_edit().items()}
        return {**{name: score.score for name, score in self.scores.items()}, **by_edit}

    def intervals(self) -> dict[str, object]:
        """Return [low, high] of every score, with the keys of `values`."""
        by_edit = {
            name: {edit: [one.low, one.high] for edit, one in found.items()} for name, found in self._by_edit().items()
        }
        limits = {name: [score.low, score.high] for name, score in self.scores.items()}
        return {**limits, **by_edit}

    def _by_edit(self) -> dict[str, dict[str, Score]]:
        return {"compositional_by_edit": self.by_edit, "micro_sugarcrepe_pp_itt_by_edit": self.itt_by_edit}


def score_suite(encoder: Encoder, suite: MicroSuite) -> SuiteScores:
    """Score an encoder on one split of the test set."""
    single, retrieval = suite.classification, suite.retrieval
    images = encoder.images(single.images)
    pair_images, pair_texts = encoder.images(retrieval.images), encoder.texts(retrieval.captions)
    own = torch.arange(len(pair_images))
    correct = {
        "zero_shot_things": ranks(images, encoder.classes(thing_prompts()), torch.from_numpy(single.things)) == 1,
        "zero_shot_colours": ranks(images, encoder.classes(colour_prompts()), torch.from_numpy(single.colours)) == 1,
        "retrieval_i2t_r1": ranks(pair_images, pair_texts, own) == 1,
        "retrieval_t2i_r1": ranks(pair_texts, pair_images, own) == 1,
    }
    answers = {name: right.numpy() for name, right in correct.items()}
    scores = {name: proportion(right, CHANCE[name]) for name, right in answers.items()}
    names = np.array(suite.compositional.edits)
    closer = _compositional(encoder, suite.compositional)
    by_edit = {
        name: {edit: proportion(right[names == edit], CHANCE[name]) for edit in EDITS} for name, right in closer.items()
    }
    # The mean over edits: each has the same weight, whatever its number of pictures.
    scores |= {name: mean_of(list(found.values())) for name, found in by_edit.items()}
    return SuiteScores(scores, by_edit["compositional"], by_edit["micro_sugarcrepe_pp_itt"], {**answers, **closer})


def _compositional(encoder: Encoder, pairs: EditedPairs) -> dict[str, np.ndarray]:
    """Answers bool [n] by score; micro SugarCrepe++ as `compositional.sugarcrepe_pp`."""
    images = encoder.images(pairs.images)
    caption, paraphrase, negative = map(encoder.texts, (pairs.captions, pairs.paraphrases, pairs.negatives))
    first, second = more_similar(images, caption, negative), more_similar(images, paraphrase, negative)
    return {
        "compositional": first.numpy(),
        "micro_sugarcrepe_pp_itt": (first & second).numpy(),
        "micro_sugarcrepe_pp_paraphrase": second.numpy(),
        "micro_sugarcrepe_pp_tot": text_only(caption, paraphrase, negative).numpy(),
    }
