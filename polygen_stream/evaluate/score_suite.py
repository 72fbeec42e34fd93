"""Scores a CLIP on the micro world's test set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.metrics import more_similar, ranks
from polygen_stream.evaluate.micro_suite import MicroSuite, chance, colour_prompts, thing_prompts
from polygen_stream.evaluate.score import Score, mean_of, proportion
from polygen_stream.micro.edits import EDITS


def score_suite(encoder: Encoder, suite: MicroSuite) -> dict[str, Score | dict[str, Score]]:
    """Every score of the suite, with the keys of `micro_suite.chance`."""
    single, retrieval, pairs = suite.classification, suite.retrieval, suite.compositional
    guess = chance()
    images = encoder.images(single.images)
    found_images, found_texts = encoder.images(retrieval.images), encoder.texts(retrieval.captions)
    own = torch.arange(len(found_images))
    shown = more_similar(encoder.images(pairs.images), encoder.texts(pairs.captions), encoder.texts(pairs.negatives))
    names = np.array(pairs.edits)
    by_edit = {e: proportion(shown.numpy()[names == e], 0.5) for e in EDITS}
    right = {
        "zero_shot_things": ranks(images, encoder.classes(thing_prompts()), torch.from_numpy(single.things)) == 1,
        "zero_shot_colours": ranks(images, encoder.classes(colour_prompts()), torch.from_numpy(single.colours)) == 1,
        "retrieval_i2t_r1": ranks(found_images, found_texts, own) == 1,
        "retrieval_t2i_r1": ranks(found_texts, found_images, own) == 1,
    }
    return {
        **{name: proportion(answers.numpy(), guess[name]) for name, answers in right.items()},
        # the mean over edit types: each weighs the same however many pairs it has
        "compositional": mean_of(list(by_edit.values())),
        "compositional_by_edit": by_edit,
    }


def values(scores: Mapping[str, Score | Mapping[str, Score]]) -> dict[str, object]:
    """The scores alone, as eval.jsonl has them."""
    return {k: s.score if isinstance(s, Score) else {e: one.score for e, one in s.items()} for k, s in scores.items()}


def intervals(scores: Mapping[str, Score | Mapping[str, Score]]) -> dict[str, object]:
    """[low, high] of every score, with the same keys."""
    return {
        k: [s.low, s.high] if isinstance(s, Score) else {e: [one.low, one.high] for e, one in s.items()}
        for k, s in scores.items()
    }
