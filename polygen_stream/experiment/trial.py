"""One run of an experiment: train on a part of the pool, then measure."""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from pathlib import Path

import torch

from polygen_stream.assets.resources import recipe_name
from polygen_stream.config import asks_for_negatives
from polygen_stream.experiment.measures import EvaluationSets, Measured, measure, validate
from polygen_stream.experiment.pool import ImagePool
from polygen_stream.experiment.reader import ArmData, passes
from polygen_stream.experiment.results import Trial, TrialResult
from polygen_stream.experiment.spec import Arm, Experiment, PoolSpec, settings_hash
from polygen_stream.experiment.stream import Stream
from polygen_stream.train.model import initial_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import prefer_plain_attention
from polygen_stream.train.step import train_step

EARLY = 0.2  # of the steps: where the variance of the gradient norm is taken


def run_trial(experiment: Experiment, trial: Trial, pools: Path) -> TrialResult:
    """Train and measure, with one CPU thread.

    Args:
        experiment: what the run is part of.
        trial: the run.
        pools: folder of the rendered pools.
    """
    torch.set_num_threads(1)
    prefer_plain_attention(torch.device("cpu"))
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that a new model has no pretrained weights
    began = time.monotonic()
    arm = experiment.arm(trial.arm)
    config = experiment.run_config(arm, trial.lr, trial.seed)
    pool = experiment.pool_number(trial.seed)
    evaluation_sets = _evaluation_sets(experiment.numbered_pool(pool), pools)
    data = ArmData(evaluation_sets.pool, arm, trial.seed, asks_for_negatives(config))
    model, tokenizer = initial_clip(config.train, config.seed)
    optimizer = build_optimizer(model, config.train)
    model.train()
    images = texts = 0
    norms, losses = [], []
    stream = Stream(data, config, tokenizer) if arm.buffer else None
    for batch in passes(data, config, tokenizer) if stream is None else stream.batches():
        result = train_step(model, optimizer, batch, config)
        if stream is not None:
            stream.report(batch, result)
        images, texts = images + result.images, texts + result.texts
        norms.append(result.grad_norm)
        losses.append(result.loss)
    trained = time.monotonic()
    model.eval()
    validation = validate(model, tokenizer, evaluation_sets)
    measured = measure(model, tokenizer, evaluation_sets) if trial.phase == "test" else Measured({}, {})
    early = torch.tensor(norms[: max(2, int(EARLY * len(norms)))], dtype=torch.float64)
    return TrialResult(
        arm=trial.arm,
        phase=trial.phase,
        seed=trial.seed,
        lr=trial.lr,
        settings=settings_hash(experiment, arm),
        pool=pool,
        ensemble="+".join(recipe_name(recipe).rpartition("/")[2] for recipe in data.ensemble),
        n_positives=arm.positives,
        m=len(data.ensemble),
        captions=arm.captions,
        images_rendered=images_rendered(arm, asks_for_negatives(config)),
        images_seen=images,
        texts_seen=texts,
        steps=config.train.steps,
        seconds_training=round(trained - began, 1),
        seconds=round(time.monotonic() - began, 1),
        final_loss=sum(losses[-20:]) / len(losses[-20:]),
        early_grad_norm_variance=early.var().item(),
        validation=validation,
        scores=measured.scores,
        correct=measured.correct,
    )


def images_rendered(arm: Arm, negatives: bool) -> int:
    """Return how many images a run of the arm needs, those of hard negatives included."""
    return arm.images * (2 if negatives else 1)


@lru_cache(maxsize=2)
def _evaluation_sets(spec: PoolSpec, pools: Path) -> EvaluationSets:
    return EvaluationSets.build(ImagePool(spec, pools / spec.name))
