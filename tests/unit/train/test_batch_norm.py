"""Batch norms over two real processes are those of one that has the whole batch."""

from __future__ import annotations

import pytest
import torch
from gloo_work import batch_norm_case, batch_norm_work, gradients
from torch.multiprocessing import spawn

from polygen_stream.base.errors import UserError
from polygen_stream.train.batch_norm import synchronize_batch_norms


def test_outputs_gradients_and_statistics_are_those_of_the_whole_batch(tmp_path):
    spawn(batch_norm_work, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    model, inputs, weights = batch_norm_case()
    outputs = [model(inputs + step) for step in range(2)]
    for output in outputs:
        (output * weights).square().sum().backward()
    exact = {"rtol": 1e-10, "atol": 1e-12}
    for step, output in enumerate(outputs):
        torch.testing.assert_close(torch.cat([rank["outputs"][step] for rank in ranks]), output.detach(), **exact)
    expected = dict(model.state_dict())
    with torch.no_grad():
        expected["evaluated"] = model.eval()(inputs)
    for rank in ranks:
        assert rank["state"].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(rank["state"][name], value, **exact)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(rank[name], gradient, **exact)


def test_a_kind_that_cannot_be_shared_is_refused_by_name():
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.BatchNorm2d(3, momentum=None)))
    with pytest.raises(UserError, match=r"0\.0 of the model is BatchNorm2d.*train\.ranks = 1"):
        synchronize_batch_norms(model, torch.device("cpu"))
