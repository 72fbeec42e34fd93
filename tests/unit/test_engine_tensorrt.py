"""TensorRT without a GPU: which backend and target, and what a machine is told that has none."""

from __future__ import annotations

import pytest
import torch

from polygen_stream.engine.backends import get_backend
from polygen_stream.errors import UserError


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt"])
def test_a_target_is_refused_where_none_can_be_chosen(name: str):
    with pytest.raises(UserError, match="leave --target SM89 away"):
        get_backend(name, "SM89")


def test_an_unknown_architecture_lists_the_known_ones():
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(UserError, match=r"cannot build for 'SM90': choose from .*SM80.*SM89"):
        get_backend("tensorrt-rtx", "SM90")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_message_says_how_to_build_all_the_same():
    with pytest.raises(UserError, match=r"no NVIDIA GPU here: .*--backend tensorrt-rtx --target SM89"):
        get_backend("tensorrt-rtx").target()


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(UserError, match=r"no engine backend 'tensort': choose one of .*onnxruntime.*tensorrt"):
        get_backend("tensort")
