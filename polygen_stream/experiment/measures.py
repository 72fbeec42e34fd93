"""The measurements of a trained model: the five tasks of Delta_MTL, composition, transfer, and the generator probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polygen_stream.analyze.invariance import generator_probe
from polygen_stream.evaluate.data import Data
from polygen_stream.evaluate.encoder import Encoder
from polygen_stream.evaluate.linear_probe import few_shot, linear_probe
from polygen_stream.evaluate.micro_suite import BY_EDIT, Classification, MicroSuite, build_suite, classification
from polygen_stream.evaluate.score_suite import score_suite
from polygen_stream.evaluate.transfer.folder import has_default_folder
from polygen_stream.evaluate.transfer.task import transfer
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
        pool: its held-out captions, if it has any, are those of the generator probe.
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


@dataclass(frozen=True)
class Measured:
    """What a model scores on the test set.

    Attributes:
        scores: {name: score in 0..1} for each of `results.SCORES`, transfer if its pictures are on this machine, the
            generator probe if the pool has captions for it.
        correct: {name: bool [items], of few-shot [draws, items]} for each of `results.ITEMS`. Its mean is the score;
            the scores of composition are means over edits, which is the same while all edits have as many items.
    """

    scores: dict[str, float]
    correct: dict[str, np.ndarray]


@torch.inference_mode()
def measure(model: ClipModel, tokenizer: Tokenizer, sets: EvaluationSets) -> Measured:
    """Score a model in eval mode on the test set."""
    encoder = Encoder(model, tokenizer)
    probe, test = sets.probe, sets.test.classification
    features = [encoder.images(part.images).numpy() for part in (probe, test)]
    probed = features[0], probe.things, features[1], test.things
    suite = score_suite(encoder, sets.test)
    correct = {
        "zero_shot": suite.correct["zero_shot_things"],
        "linear_probe": linear_probe(*probed),
        "few_shot": few_shot(*probed),
        "image_to_text_r1": suite.correct["retrieval_i2t_r1"],
        "text_to_image_r1": suite.correct["retrieval_t2i_r1"],
        "compositional": suite.correct["compositional"],
        "micro_sugarcrepe_pp_itt": suite.correct["micro_sugarcrepe_pp_itt"],
        "zero_shot_colours": suite.correct["zero_shot_colours"],
    }
    scores = {name: float(right.mean()) for name, right in correct.items()}
    for name in BY_EDIT:
        scores[name] = suite.scores[name].score
    if has_default_folder():
        scores["transfer"] = transfer(Data(encoder), "")["acc1"].score
    if sets.pool.spec.has_probe:
        scores["generator_probe"] = _generator_probe(encoder, sets.pool)
    return Measured(scores, correct)


@torch.inference_mode()
def validate(model: ClipModel, tokenizer: Tokenizer, sets: EvaluationSets) -> float:
    """Return the score that learning rates are chosen by: mean of zero-shot and both retrievals, validation set."""
    scores = score_suite(Encoder(model, tokenizer), sets.validation).scores
    return float(np.mean([scores[name].score for name in ("zero_shot_things", "retrieval_i2t_r1", "retrieval_t2i_r1")]))


def _generator_probe(encoder: Encoder, pool: ImagePool) -> float:
    """Accuracy of a linear probe for the generator, on images of held-out captions; chance is 1 / generators."""
    features = [encoder.images(pool.held_out(name)).numpy() for name in pool.spec.generators]
    captions = np.arange(pool.spec.held_out)
    generators = np.repeat(np.arange(len(features)), len(captions))
    return generator_probe(np.concatenate(features), generators, np.tile(captions, len(features)))["share"]
