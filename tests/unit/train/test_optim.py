from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from polygen_stream.config import TrainConfig, learning_rate
from polygen_stream.train.model import create_clip
from polygen_stream.train.optim import build_optimizer, set_learning_rate

CONFIG = TrainConfig(steps=100, warmup=10, lr=2e-3)


def test_rate_warms_up_linearly_then_falls_to_zero():
    rates = [learning_rate(step, CONFIG) for step in range(101)]
    assert rates[0] == pytest.approx(2e-4) and rates[9] == pytest.approx(2e-3)
    assert rates[10] == pytest.approx(2e-3)  # warm-up and cosine meet at the peak
    assert rates[55] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize(
    ("decay", "after_a_quarter", "half_way"),
    [("cosine", 0.853553, 0.5), ("linear", 0.75, 0.5), ("sqrt", 0.5, 0.292893)],
)
def test_rate_is_constant_until_the_share_of_steps_in_which_it_decays(decay, after_a_quarter, half_way):
    config = TrainConfig(steps=1000, warmup=10, lr=2e-3, lr_decay=decay, lr_decay_share=0.2)
    rates = [learning_rate(step, config) for step in range(1001)]
    assert rates[9:801] == [2e-3] * 792
    assert all(a > b for a, b in pairwise(rates[800:]))
    assert rates[850] == pytest.approx(2e-3 * after_a_quarter)
    assert rates[900] == pytest.approx(2e-3 * half_way, rel=1e-5)
    assert rates[1000] == pytest.approx(0, abs=1e-12)


def test_a_decay_longer_than_what_the_warmup_leaves_begins_with_its_end():
    config = TrainConfig(steps=100, warmup=40, lr=1.0, lr_decay="linear", lr_decay_share=0.9)
    assert learning_rate(40, config) == 1.0 and learning_rate(70, config) == pytest.approx(0.5)


def test_rate_without_warmup_starts_at_the_peak():
    assert learning_rate(0, TrainConfig(steps=100, warmup=0, lr=2e-3)) == pytest.approx(2e-3)


def test_run_shorter_than_its_warmup_has_a_rate():
    config = TrainConfig(steps=5, warmup=10, lr=1e-3)
    assert [learning_rate(step, config) for step in range(5)] == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])


def test_only_matrices_decay():
    model, _ = create_clip("micro")
    optimizer = build_optimizer(model, CONFIG)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for p in optimizer.param_groups[0]["params"]}
    spared = {names[id(p)] for p in optimizer.param_groups[1]["params"]}
    assert decayed | spared == set(names.values()) and not decayed & spared
    assert "logit_scale" in spared and "ln_final.weight" in spared
    assert "token_embedding.weight" in decayed and "text_projection" in decayed
    assert not any(name.endswith(".bias") for name in decayed)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [CONFIG.weight_decay, 0.0]


def test_set_learning_rate_reaches_every_group():
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, CONFIG)
    set_learning_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
