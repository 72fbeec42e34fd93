"""TensorRT without a GPU: everything up to the driver call."""

from __future__ import annotations

import pytest
import torch

from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.tensorrt import bind
from polygen_stream.engine.profile import Profile
from polygen_stream.errors import PolygenError, UserError

PROFILE = Profile(
    rows=(2, 8, 16),
    shapes={"sample": (4, 8, 8), "timestep": (), "encoder_hidden_states": (32, 96)},
    dtypes={"sample": "float16", "timestep": "float32", "encoder_hidden_states": "float16"},
)


def call(rows: int = 4, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "sample": torch.randn(rows, 4, 8, 8),
        "timestep": torch.full((rows,), 999.0),
        "encoder_hidden_states": torch.randn(rows, 32, 96),
    } | changes


def test_bindings_have_the_engines_names_types_and_the_calls_shapes():
    bound = {binding.name: binding for binding in bind(call(), PROFILE)}
    assert {name: binding.shape for name, binding in bound.items()} == {
        "sample": (4, 4, 8, 8), "timestep": (4,), "encoder_hidden_states": (4, 32, 96)
    }  # fmt: skip
    assert {name: str(binding.tensor.dtype) for name, binding in bound.items()} == {
        "sample": "torch.float16", "timestep": "torch.float32", "encoder_hidden_states": "torch.float16"
    }  # fmt: skip


def test_bound_tensors_are_contiguous():
    strided = torch.randn(4, 8, 8, 4).permute(0, 3, 1, 2)
    (sample,) = (binding for binding in bind(call(sample=strided), PROFILE) if binding.name == "sample")
    assert sample.tensor.is_contiguous()
    assert torch.equal(sample.tensor, strided.half())


@pytest.mark.parametrize("rows", [1, 17])
def test_rows_outside_the_profile_are_refused_with_both_numbers(rows: int):
    with pytest.raises(PolygenError, match=rf"sample: the engine takes 2 to 16 rows .* gives {rows} of"):
        bind(call(rows), PROFILE)


def test_another_picture_size_is_refused():
    with pytest.raises(PolygenError, match=r"of \[4, 8, 8\], the pipeline gives 4 of \[4, 16, 16\]"):
        bind(call(sample=torch.randn(4, 4, 16, 16)), PROFILE)


def test_a_missing_and_an_unknown_input_are_named():
    inputs = call()
    inputs["time_ids"] = inputs.pop("timestep")
    with pytest.raises(PolygenError, match=r"takes .*'timestep'.*gives .*'time_ids'"):
        bind(inputs, PROFILE)


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
