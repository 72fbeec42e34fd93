"""The measurements of a trained model: the five tasks of Delta_MTL, composition, and the generator probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.micro_suite import Classification, MicroSuite, build_suite, classification
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.experiment.pool import ImagePool
from polygen_stream.micro.world import Split
from polygen_stream.train.model import ClipModel, Tokenizer

IMAGES_PER_THING = 40
RETRIEVAL_PAIRS = 500
PROBE_IMAGES_PER_THING = 40


@dataclass(frozen=True)
class EvaluationSets:
    """What trained models are measured on.

    Attributes:
        test: images of the reserved combinations.
        validation: images of the combinations that models may train on, drawn anew.
        probe: training set of the linear and few-shot probes.
        pool: its held-out captions are those of the generator probe.
    """

    test: MicroSuite
    validation: MicroSuite
    probe: Classification
    pool: ImagePool

    @classmethod
    def build(cls, pool: ImagePool) -> EvaluationSets:
        """Draw the images of all sets."""
        test, validation = (
            build_suite(split, IMAGES_PER_THING, RETRIEVAL_PAIRS) for split in (Split.UNSEEN, Split.SEEN)
        )
        # After the images of the validation set.
        probe = classification(Split.SEEN, PROBE_IMAGES_PER_THING, first=IMAGES_PER_THING)
        return cls(test, validation, probe, pool)


@torch.inference_mode()
def measure(model: ClipModel, tokenizer: Tokenizer, sets: EvaluationSets) -> dict[str, float]:
    """Return the scores of a model in eval mode on the test set: {name: score in 0..1} for each of `results.SCORES`."""
    encoder = Encoder(model, tokenizer)
    probe, test = sets.probe, sets.test.classification
    features = [encoder.images(part.images).numpy() for part in (probe, test)]
    probed = features[0], probe.things, features[1], test.things
    suite = score_suite(encoder, sets.test).scores
    return {
        "zero_shot": suite["zero_shot_things"].score,
        "linear_probe": float(linear_probe(*probed).mean()),
        "few_shot": float(few_shot(*probed).mean()),
        "image_to_text_r1": suite["retrieval_i2t_r1"].score,
        "text_to_image_r1": suite["retrieval_t2i_r1"].score,
        "compositional": suite["compositional"].score,
        "zero_shot_colours": suite["zero_shot_colours"].score,
        "generator_probe": _generator_probe(encoder, sets.pool),
    }


@torch.inference_mode()
def validate(model: ClipModel, tokenizer: Tokenizer, sets: EvaluationSets) -> float:
    """Return the score that learning rates are chosen by: mean of zero-shot and both retrievals, validation set."""
    scores = score_suite(Encoder(model, tokenizer), sets.validation).scores
    return float(np.mean([scores[name].score for name in ("zero_shot_things", "retrieval_i2t_r1", "retrieval_t2i_r1")]))


def _generator_probe(encoder: Encoder, pool: ImagePool) -> float:
    """Accuracy of a linear probe for the generator, on images of held-out captions; chance is 1 / generators."""
    rows = np.arange(len(pool.captions) - pool.spec.held_out, len(pool.captions))
    features = [encoder.images(pool.images(name, False, 0)[rows]).numpy() for name in pool.spec.generators]
    generators = np.repeat(np.arange(len(features)), len(rows))
    return generator_probe(np.concatenate(features), generators, np.tile(rows, len(features)))["share"]
