"""TensorRT without a GPU: which backend and target, and what a machine is told that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.backends.base import Job
from polygen_stream.engine.source import RandomSource
from polygen_stream.errors import UserError
from polygen_stream.generators.recipe import TensorRtSpec, load_recipe


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


def test_the_optimization_level_reaches_the_library(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    source = RandomSource(load_recipe("micro/sd15"), tmp_path, lambda line: None, "cpu")
    graph, profile = source.graph("text_encoder"), source.profile("text_encoder", bf16=False)
    plans = []
    for level in (None, None, 0):
        job = Job(graph, tmp_path / "text_encoder.plan", profile, TensorRtSpec(optimization_level=level), tmp_path)
        get_backend("tensorrt-rtx", "SM80").compile(job)
        plans.append(job.engine.read_bytes())
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_plans_for_refitting_ask_for_a_gpu(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    source = RandomSource(load_recipe("micro/sd15"), tmp_path, lambda line: None, "cpu")
    profile = source.profile("text_encoder", bf16=False)
    job = Job(tmp_path / "unread.onnx", tmp_path / "a.plan", profile, TensorRtSpec(refit=True), tmp_path)
    with pytest.raises(UserError, match=r"on a GPU only: build for SM80 where there is one, or leave .*refit out"):
        get_backend("tensorrt-rtx", "SM80").compile(job)
