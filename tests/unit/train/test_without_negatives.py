"""A curriculum whose share stays 0 trains the very model that a run without hard negatives trains."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from polygen_stream.config import CurriculumConfig, GeneratorsConfig, RunConfig, TrainConfig, curriculum_of
from polygen_stream.ring import Kind, Member, Ring, RingSpec
from polygen_stream.train.data import RingReader
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer
from polygen_stream.train.staging import HostStaging
from polygen_stream.train.step import train_step

STEPS, TEXTS, GROUPS = 6, 8, 20
TRAIN = {"steps": STEPS, "batch": TEXTS, "warmup": 1}
SHAPE = (32, 32, 3)


def filled_ring(config: RunConfig) -> Ring:
    """Groups as the captioner opens them for this curriculum: with a negative where it asks for one."""
    positives, negatives = config.generators.positives, config.generators.negatives
    spec = RingSpec(
        slots=256,
        image_shape=SHAPE,
        groups=64,
        members=positives + negatives,
        caption_bytes=64,
        generators=("one",),
        seed=config.seed,
    )
    ring = Ring.create(spec)
    ring.register("test", "test")
    pair = curriculum_of(config).production_share(0, lead_steps=STEPS) > 0
    for task in range(GROUPS):
        members = [Member(0, 0, seed) for seed in range(positives)]
        members += [Member(0, 1, seed) for seed in range(negatives)] if pair else []
        negative = f"no caption {task}" if pair else None
        ring.open_group(task, Kind(int(pair)), f"caption {task}", negative, members, timeout_s=1)
        claims = ring.claim([0], limit=len(members))
        pixels = [np.random.default_rng([task, c.polarity, c.seed]).integers(0, 256, SHAPE, np.uint8) for c in claims]
        ring.commit(claims, np.stack(pixels))
    return ring


def trained(config: RunConfig) -> tuple[list, list[float], dict[str, torch.Tensor]]:
    """What was drawn, the losses, and the model after the run."""
    torch.manual_seed(0)
    model, tokenizer = create_clip("micro")
    optimizer, drawn, losses = build_optimizer(model.train(), config.train), [], []
    with closing(filled_ring(config)) as ring:
        reader = RingReader(
            ring,
            curriculum_of(config),
            tokenizer,
            HostStaging(),
            torch.device("cpu"),
            steps=STEPS,
            timeout_s=1.0,
            stop=lambda: False,
        )
        for batch in reader:
            losses.append(train_step(model, optimizer, batch, config).loss)
            drawn.append(batch.draw_record)
    return drawn, losses, model.state_dict()


def config_with(end: float, negatives: int, **train) -> RunConfig:
    return RunConfig(
        generators=GeneratorsConfig(positives=2, negatives=negatives),
        curriculum=CurriculumConfig(end=end),
        train=TrainConfig(**TRAIN, **train),
    )


@pytest.fixture(scope="module")
def off():
    return trained(config_with(end=0.0, negatives=0))


@pytest.mark.parametrize(
    "train",
    [{}, {"hn_t2i": "none"}, {"hn_t2i": "all"}, {"objective": "negclip"}, {"objective": "infonce"}],
    ids=str,
)
def test_a_share_of_zero_is_bit_identical_to_hard_negatives_off(off, train):
    drawn, losses, state = trained(config_with(end=0.0, negatives=2, **train))
    assert drawn == off[0] and losses == off[1]
    assert all(torch.equal(state[name], value) for name, value in off[2].items())


def test_a_share_above_zero_is_not(off):
    drawn, losses, state = trained(config_with(end=0.3, negatives=2))
    assert drawn != off[0] and losses != off[1]
    assert not torch.equal(state["text_projection"], off[2]["text_projection"])
