"""One run of an experiment: train on a part of the pool, then measure."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from polygen_stream.assets.resources import recipe_name
from polygen_stream.base.seeding import key
from polygen_stream.experiment.measures import Questions, measure, validate
from polygen_stream.experiment.pool import PicturePool
from polygen_stream.experiment.reader import ArmData, passes, through_ring
from polygen_stream.experiment.spec import Arm, Experiment, PoolSpec, draws_negatives
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.precision import prefer_plain_attention
from polygen_stream.train.step import train_step

EARLY = 0.2  # share of the steps


@dataclass(frozen=True)
class Trial:
    """phase: "tune" for the choice of the learning rate, "test" for the comparison."""

    arm: str
    phase: str
    seed: int
    lr: float


def run_trial(experiment: Experiment, trial: Trial, pool_folder: Path) -> dict[str, object]:
    """Train and measure; the row of the result table. Computes with one CPU thread."""
    torch.set_num_threads(1)
    prefer_plain_attention(torch.device("cpu"))
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that a new model has no pretrained weights
    began = time.monotonic()
    arm = experiment.arm(trial.arm)
    config = experiment.run_config(arm, trial.lr, trial.seed)
    questions = _questions(experiment.pool, pool_folder)
    data = ArmData(questions.pool, arm, trial.seed, draws_negatives(config))
    torch.manual_seed(key(config.seed, "model") >> 1)  # initial weights
    model, tokenizer = create_clip(config.train.model)
    optimizer = build_optimizer(model, config.train)
    model.train()
    images = texts = 0
    norms, losses = [], []
    for batch in (through_ring if arm.buffer else passes)(data, config, tokenizer):
        result = train_step(model, optimizer, batch, config)
        images, texts = images + result.images, texts + result.texts
        norms.append(result.grad_norm)
        losses.append(result.loss)
    trained = time.monotonic()
    model.eval()
    scores = {"validation": validate(model, tokenizer, questions)}
    if trial.phase == "test":
        scores |= measure(model, tokenizer, questions)
    early = torch.tensor(norms[: max(2, int(EARLY * len(norms)))], dtype=torch.float64)
    return {
        "arm": trial.arm,
        "phase": trial.phase,
        "seed": trial.seed,
        "lr": trial.lr,
        "settings": settings_of(experiment, arm),
        "ensemble": "+".join(recipe_name(recipe).rpartition("/")[2] for recipe in data.ensemble),
        "n_positives": arm.positives,
        "m": len(data.ensemble),
        "captions": arm.captions,
        "images_rendered": rendered(arm, draws_negatives(config)),
        "images_seen": images,
        "texts_seen": texts,
        "steps": config.train.steps,
        "seconds_training": round(trained - began, 1),
        "seconds": round(time.monotonic() - began, 1),
        "final_loss": sum(losses[-20:]) / len(losses[-20:]),
        "early_grad_norm_variance": early.var().item(),
        **scores,
    }


def rendered(arm: Arm, negatives: bool) -> int:
    """Images that a run of the arm renders, hard negatives included."""
    return arm.images * (2 if negatives else 1)


def settings_of(experiment: Experiment, arm: Arm) -> str:
    """Changes when runs of the arm would come out differently: not with its name or the number of its runs."""
    # The pool's name says what is in recipe files; where they lie changes nothing.
    names = [list(map(recipe_name, ensemble)) for ensemble in arm.ensembles]
    relevant = (
        experiment.pool.name,
        experiment.steps,
        experiment.images_per_step,
        sorted(experiment.config.items()),
        sorted((arm.model_dump(mode="json", exclude={"name", "seeds"}) | {"ensembles": names}).items()),
    )
    return hashlib.sha256(repr(relevant).encode()).hexdigest()[:10]


@lru_cache(maxsize=1)
def _questions(spec: PoolSpec, folder: Path) -> Questions:
    return Questions.build(PicturePool(spec, folder))
