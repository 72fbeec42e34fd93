"""Eight bits: graphs that ModelOpt quantised compute what eager computes, about, and compile for GPUs that have fp8."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.key import engine_key
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.quantize import quantize_graph
from polygen_stream.engine.source import RandomSource
from polygen_stream.generators.recipe import Recipe, TensorRtSpec, load_recipe, read_recipe

torch.set_num_threads(1)


def quantized(kind: str, **changes: object) -> Recipe:
    """A recipe that compiles its UNet in 8 bits."""
    recipe = load_recipe("micro/sd15").model_copy(update=changes)
    tensorrt = TensorRtSpec(quantize={"unet": kind})
    return recipe.model_copy(
        update={"engine": recipe.engine.model_copy(update={"parts": ("unet",), "tensorrt": tensorrt})}
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            'quantize = { vae_2 = "fp8" }',
            r"sd15\.toml: engine\.tensorrt\.quantize names vae_2, which engine\.parts does not$",
        ),
        ('quantize = { unet = "int4" }', "quantize.unet: expected one of 'fp8' or 'int8', got 'int4'"),
        ("optimization_level = 6", "optimization_level: expected at most 5, got 6"),
        ("precision = 8", "unknown key engine.tensorrt.precision"),
    ],
)
def test_a_recipe_that_asks_for_what_there_is_not_is_refused(tmp_path: Path, table: str, told: str):
    shipped = Path(__file__).parents[2] / "engines" / "sd15.toml"
    path = tmp_path / "sd15.toml"
    path.write_text(f"{shipped.read_text()}\n[engine.tensorrt]\n{table}\n")
    with pytest.raises(UserError, match=told):
        read_recipe(path, "sd15")


def test_bfloat16_parts_are_not_quantized(tmp_path: Path):
    shipped = Path(__file__).parents[2] / "engines" / "sana.toml"
    path = tmp_path / "sana.toml"
    path.write_text(f'{shipped.read_text()}\n[engine.tensorrt]\nquantize = {{ transformer = "fp8" }}\n')
    with pytest.raises(
        UserError, match=r"sana\.toml: engine\.tensorrt\.quantize names transformer, which is bfloat16: .*others$"
    ):
        read_recipe(path, "sana")


def test_without_modelopt_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "modelopt.onnx.quantization", None)
    with pytest.raises(UserError, match=r"quantize needs nvidia-modelopt .*polygen-stream\[modelopt\]"):
        quantize_graph(tmp_path / "unet.onnx", [], "fp8", tmp_path / "out.onnx")


def test_the_key_of_quantized_engines_names_modelopt_and_no_other_key_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("polygen_stream.engine.key.installed_version", lambda backend: "1.7")
    backend = get_backend("tensorrt-rtx")
    monkeypatch.setattr(type(backend), "target", lambda self: "SM89")
    keys = [
        engine_key(recipe, name, get_backend(name))
        for recipe in (quantized("fp8"), load_recipe("micro/sd15"))
        for name in ("tensorrt-rtx", "onnxruntime")
    ]
    assert ["ModelOpt" in key.flags for key in keys] == [True, False, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp8", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_quantized_plans_compile_for_a_gpu_that_is_not_here(kind: str, dtype: str, tmp_path: Path):
    pytest.importorskip("modelopt.onnx.quantization")
    pytest.importorskip("tensorrt_rtx")
    recipe, said = quantized(kind, dtype=dtype), []
    (entry,) = build(recipe, "tensorrt-rtx", EngineCache(tmp_path), ["SM89"], random_weights=True, say=said.append)
    entry.verify()
    assert "quantize unet" in said
    assert entry.profile("unet").dtypes["sample"] == dtype  # inputs and outputs stay what they are


@pytest.mark.slow
def test_an_int8_graph_computes_about_what_eager_computes(tmp_path: Path):
    pytest.importorskip("modelopt.onnx.quantization")
    ort = pytest.importorskip("onnxruntime")
    source = RandomSource(quantized("int8"), tmp_path, lambda line: None, "cpu")
    path = source.quantized("unet")
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") > 100
    (call,), module = source.calls("unet"), source.module("unet")
    with torch.inference_mode():
        expected = part_of(module).call(module, call)["noise"].numpy()
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (got,) = session.run(["noise"], {name: tensor.numpy() for name, tensor in call.items()})
    worst = np.abs(got - expected).max() / max(1.0, np.abs(expected).max())
    assert 1e-4 < worst < source.spec.tensorrt.quantized_tolerance  # 8 bits did something, and not too much
