"""Results that are read a step late are those of the step that they name."""

from __future__ import annotations

import pytest
import torch
from colour_batch import batch_of, setup

from polygen_stream.base.errors import PolygenError
from polygen_stream.config import RunConfig, TrainConfig
from polygen_stream.train.late_results import LateResults
from polygen_stream.train.step import issue_step

CONFIG = RunConfig(train=TrainConfig(precision="fp32", warmup=2, steps=100, lr=2e-3))


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_each_step_is_finished_once_and_in_order_with_its_own_figures(lag: int):
    model, tokenizer, optimizer = setup(CONFIG)
    late, found, unread = LateResults(lag), [], 0
    for step in range(5):
        batch = batch_of(tokenizer, step)
        added = late.add(batch, issue_step(model, optimizer, batch, CONFIG), 0.0)
        unread += 1 - len(added)
        assert unread == min(step + 1, lag)
        found += added
    found += late.rest()
    assert late.rest() == []
    assert [each.batch.step for each in found] == list(range(5))
    assert [each.ended for each in found] == sorted(each.ended for each in found)
    assert all(each.step_s == each.ended for each in found)  # they began at 0
    model, tokenizer, optimizer = setup(CONFIG)
    at_once = [issue_step(model, optimizer, batch_of(tokenizer, step), CONFIG).read() for step in range(5)]
    assert [each.result for each in found] == at_once


def test_a_loss_that_is_no_number_is_reported_for_its_step_and_changes_no_weight_until_then():
    model, tokenizer, optimizer = setup(CONFIG)
    late = LateResults(lag=1)
    late.add(batch_of(tokenizer, 0), issue_step(model, optimizer, batch_of(tokenizer, 0), CONFIG), 0.0)
    model.text_projection.data[0, 0] = float("nan")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    [zero] = late.add(batch_of(tokenizer, 1), issue_step(model, optimizer, batch_of(tokenizer, 1), CONFIG), 0.0)
    assert zero.batch.step == 0
    issued = issue_step(model, optimizer, batch_of(tokenizer, 2), CONFIG)
    with pytest.raises(PolygenError, match=r"^step 1: loss is nan \(i2t nan"):
        late.add(batch_of(tokenizer, 2), issued, 0.0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.nan_to_num(7.0), before[name].nan_to_num(7.0)), name
    assert {int(state["step"]) for state in optimizer.state.values()} == {1}, "updates that were left out are counted"
