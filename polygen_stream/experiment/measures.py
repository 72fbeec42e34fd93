"""What a trained model of an experiment is asked: the five tasks of Delta_MTL, composition, generators' marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.micro_suite import Classification, MicroSuite, build_suite, classification
from polygen_stream.evaluate.score_suite import score_suite, values
from polygen_stream.experiment.pool import PicturePool
from polygen_stream.micro.world import Split
from polygen_stream.train.model import Tokenizer

# SynthCLIP's five; Delta_MTL is over these.
TASKS = ("zero_shot", "linear_probe", "few_shot", "image_to_text_r1", "text_to_image_r1")
OTHERS = ("compositional", "zero_shot_colours", "generator_probe")

IMAGES_PER_THING = 40
RETRIEVAL_PAIRS = 500
PROBE_IMAGES_PER_THING = 40


@dataclass(frozen=True)
class Questions:
    """Test set (reserved combinations), validation set (fresh pictures of others), and what probes train on."""

    test: MicroSuite
    validation: MicroSuite
    probe: Classification
    pool: PicturePool

    @classmethod
    def build(cls, pool: PicturePool) -> Questions:
        test, validation = (
            build_suite(split, IMAGES_PER_THING, RETRIEVAL_PAIRS) for split in (Split.UNSEEN, Split.SEEN)
        )
        # Not those of the validation set.
        probe = classification(Split.SEEN, PROBE_IMAGES_PER_THING, first=IMAGES_PER_THING)
        return cls(test, validation, probe, pool)


@torch.inference_mode()
def measure(model: torch.nn.Module, tokenizer: Tokenizer, questions: Questions) -> dict[str, float]:
    """Every score of a model in eval mode on the test set, in 0..1."""
    encoder = Encoder(model, tokenizer)
    probe, asked = questions.probe, questions.test.classification
    features = [encoder.images(part.images).numpy() for part in (probe, asked)]
    probed = features[0], probe.things, features[1], asked.things
    scores = values(score_suite(encoder, questions.test))
    return {
        "zero_shot": scores["zero_shot_things"],
        "linear_probe": float(linear_probe(*probed).mean()),
        "few_shot": float(few_shot(*probed).mean()),
        "image_to_text_r1": scores["retrieval_i2t_r1"],
        "text_to_image_r1": scores["retrieval_t2i_r1"],
        "compositional": scores["compositional"],
        "zero_shot_colours": scores["zero_shot_colours"],
        "generator_probe": _generator_probe(encoder, questions.pool),
    }


@torch.inference_mode()
def validate(model: torch.nn.Module, tokenizer: Tokenizer, questions: Questions) -> float:
    """What learning rates are chosen by: the mean of zero-shot and both retrievals on the validation set."""
    scores = values(score_suite(Encoder(model, tokenizer), questions.validation))
    return float(np.mean([scores[name] for name in ("zero_shot_things", "retrieval_i2t_r1", "retrieval_t2i_r1")]))


def _generator_probe(encoder: Encoder, pool: PicturePool) -> float:
    """How well a linear probe names the generator of pictures of held-out captions; chance is 1 / generators."""
    rows = np.arange(len(pool.captions) - pool.spec.held_out, len(pool.captions))
    features = [encoder.images(pool.images(name, False, 0)[rows]).numpy() for name in pool.spec.generators]
    generators = np.repeat(np.arange(len(features)), len(rows))
    return generator_probe(np.concatenate(features), generators, np.tile(rows, len(features)))["share"]
