"""TensorRT without a GPU: which backend and target, and what a machine is told that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.base import Job
from polygen_stream.engine.profile import Profile
from polygen_stream.generators.recipe import TensorRtSpec


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt"])
def test_a_target_is_refused_where_none_can_be_chosen(name: str):
    with pytest.raises(UserError, match="leave --target SM89 away"):
        get_backend(name, "SM89")


@pytest.mark.extended  # make test-all installs TensorRT-RTX
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


PROFILE = Profile((1, 2, 4), {"x": (8,)}, {"x": "float32"})


def graph(folder: Path) -> Path:
    """y = x w, the smallest graph that is worth a kernel."""
    weight = onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 8]) for name in "xy"]
    product = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    content = onnx.helper.make_graph([product], "product", ends[:1], ends[1:], [weight])
    onnx.save(onnx.helper.make_model(content, opset_imports=[onnx.helper.make_opsetid("", 20)]), folder / "x.onnx")
    return folder / "x.onnx"


@pytest.mark.extended  # make test-all installs TensorRT-RTX
@pytest.mark.parametrize(("level", "told"), [(None, 3), (0, 0), (5, 5)])
def test_the_optimization_level_reaches_the_library(
    level: int | None, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trt = pytest.importorskip("tensorrt_rtx")
    configs, create = [], trt.Builder.create_builder_config
    monkeypatch.setattr(
        trt.Builder, "create_builder_config", lambda self: configs.append(create(self)) or configs[-1], raising=True
    )
    job = Job(graph(tmp_path), tmp_path / "x.plan", PROFILE, TensorRtSpec(optimization_level=level), tmp_path)
    get_backend("tensorrt-rtx", "SM80").compile(job)
    assert [config.builder_optimization_level for config in configs] == [told]
    assert job.engine.stat().st_size > 100


@pytest.mark.extended  # make test-all installs TensorRT-RTX
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_plans_for_refitting_ask_for_a_gpu(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    job = Job(graph(tmp_path), tmp_path / "x.plan", PROFILE, TensorRtSpec(refit=True), tmp_path)
    with pytest.raises(UserError, match=r"on a GPU only: build for SM80 where there is one, or leave .*refit out"):
        get_backend("tensorrt-rtx", "SM80").compile(job)


@pytest.mark.extended  # make test-all installs TensorRT-RTX
def test_a_graph_that_the_parser_refuses_is_named_with_its_reason(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    model = onnx.load(graph(tmp_path))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "x.onnx")
    job = Job(tmp_path / "x.onnx", tmp_path / "x.plan", PROFILE, TensorRtSpec(), tmp_path)
    with pytest.raises(PolygenError, match=r"tensorrt-rtx cannot parse x\.onnx: .*NoSuchOperator"):
        get_backend("tensorrt-rtx", "SM80").compile(job)
