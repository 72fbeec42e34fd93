"""Random weights: real architectures, calls as pipelines make them, and engines that no renderer takes for real."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from polygen_stream.base.errors import UserError
from polygen_stream.engine import parity
from polygen_stream.engine.architecture import random_weights_name
from polygen_stream.engine.backends import get_backend
from polygen_stream.engine.build import build
from polygen_stream.engine.build_engines import build_requests
from polygen_stream.engine.cache import CacheError, EngineCache
from polygen_stream.engine.examples import example_call
from polygen_stream.engine.export import export_part
from polygen_stream.engine.key import engine_key
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.random_weights import count_parameters, random_module
from polygen_stream.engine.record import recording
from polygen_stream.engine.runtime import EngineModule, use_engines
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe

MICRO = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")

# Published parameter counts, millions (model cards and the sizes of the published weight files).
MILLIONS = {
    "sd15": {"text_encoder": 123.1, "unet": 859.5, "vae": 83.7},
    "sd2": {"text_encoder": 340.4, "unet": 865.9, "vae": 83.7},
    "sana": {"text_encoder": 2614.3, "transformer": 1604.5, "vae": 312.3},
    "sdxl_turbo": {"text_encoder": 123.1, "text_encoder_2": 694.7, "unet": 2567.5, "vae": 83.7},
    "sd35_medium": {"text_encoder": 123.7, "text_encoder_2": 694.7, "transformer": 2243.2, "vae": 83.8},
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in MILLIONS.items() for part in parts])
def test_a_shipped_architecture_has_the_published_number_of_parameters(name: str, part: str):
    assert count_parameters(load_recipe(name), part) / 1e6 == pytest.approx(MILLIONS[name][part], abs=0.06)


@pytest.mark.parametrize("name", MILLIONS)
def test_every_compiled_part_of_a_full_size_recipe_has_an_architecture(name: str):
    assert set(load_recipe(name).engine.parts) == set(MILLIONS[name])


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {}) for name in MICRO]
    + [
        ("micro/sd15", {"dtype": "bfloat16"}),
        ("micro/sana", {"dtype": "bfloat16"}),
        ("micro/sdxl_turbo", {"dtype": "bfloat16", "dtypes": {"vae": "float32"}}),
    ],
)
def test_made_up_calls_are_like_those_that_the_pipeline_makes(name: str, changes: dict):
    recipe = load_recipe(name)
    recipe = recipe.model_copy(update={"sampling": {**recipe.sampling, "num_inference_steps": 2}, **changes})
    generator = load_generator(recipe)
    with recording(generator.pipeline, recipe.engine.parts) as calls:
        generator.render(parity.CAPTIONS, parity.SEEDS)

    def form(call: dict) -> dict:
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in call.items()}

    for part in recipe.engine.parts:
        made_up = example_call(recipe, getattr(generator.pipeline, part), len(parity.CAPTIONS))
        assert form(made_up) == form(calls[part][0]), part
        assert list(made_up) == list(calls[part][0]), part  # the order of the graph's inputs


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_random_modules_are_of_the_recipes_type_random_and_repeatable(dtype: str):
    recipe = load_recipe("micro/sd15").model_copy(update={"dtype": dtype})
    first, again = (random_module(recipe, "unet").state_dict() for _ in range(2))
    assert {str(tensor.dtype) for tensor in first.values()} == {f"torch.{dtype}"}
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not [name for name, tensor in first.items() if tensor.numel() > 1 and tensor.float().std() < 0.01]
    same_shape = [t for n, t in first.items() if n.endswith("conv1.weight") and t.shape == (96, 96, 3, 3)]
    assert len(same_shape) >= 2 and not torch.equal(*same_shape[:2])


def test_building_random_modules_leaves_torchs_defaults_alone():
    random_module(load_recipe("micro/sd15").model_copy(update={"dtype": "float16"}), "vae")
    assert torch.get_default_dtype() == torch.float32
    assert torch.nn.Linear(8, 8).weight.abs().sum() > 0  # initialisation is back


def test_an_architecture_that_is_not_known_is_refused_by_name():
    with pytest.raises(UserError, match=r"architecture of unet is not known here: .*hf download nobody/nothing"):
        random_module(load_recipe("micro/sd15").model_copy(update={"weights": "nobody/nothing"}), "unet")


def text_encoder_only() -> Recipe:
    recipe = load_recipe("micro/sd15")
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"parts": ("text_encoder",)})})


def test_random_engines_are_in_the_cache_under_a_key_of_their_own_and_no_renderer_loads_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("onnxruntime")
    cache, recipe = EngineCache(tmp_path), text_encoder_only()
    (entry,) = build(recipe, "onnxruntime", cache, random_weights=True)
    assert entry.key.weights == random_weights_name(recipe)
    assert entry.key.weights.startswith("random-")
    assert entry.report["parity"]["text_encoder"] <= 1e-3  # compared with the same random module
    assert "pictures" not in entry.report["parity"]
    generator = load_generator(recipe)
    with caplog.at_level(logging.WARNING):
        assert not use_engines(generator, "onnxruntime", threads=1, cache=cache)
    assert "was built for other weights random-" in caplog.text
    assert not isinstance(generator.pipeline.text_encoder, EngineModule)
    real = engine_key(recipe, "onnxruntime", get_backend("onnxruntime"))
    assert cache.find(real) is None
    assert [text.split()[0] for text in entry.key.differences(real)] == ["weights"]


def test_weights_too_large_for_protobuf_lie_in_a_file_beside_graph_and_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("polygen_stream.engine.export.LARGE_BYTES", 0)
    (entry,) = build(text_encoder_only(), "onnxruntime", EngineCache(tmp_path), random_weights=True)
    assert entry.report["parity"]["text_encoder"] <= 1e-3
    weights = entry.folder / "text_encoder.onnx.data"
    assert (
        weights.stat().st_size
        > entry.report["parameters"]["text_encoder"] * 3
        > entry.engine("text_encoder").stat().st_size
    )
    entry.verify()
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CacheError, match=r"text_encoder\.onnx\.data"):
        entry.verify()


def test_the_command_offers_random_weights_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"sd15: its weights are not on this machine: hf download .*--random-weights"):
        build_requests(["sd15"], "onnxruntime", EngineCache(tmp_path))
    (found,) = build_requests(["sd15"], "onnxruntime", EngineCache(tmp_path), random_weights=True)
    assert str(found) == "sd15: onnxruntime engines of random weights"


@pytest.mark.extended  # make test-all installs TensorRT-RTX
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_random_weights_are_compiled_for_the_a100(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    (found,) = build_requests(["sd15"], "tensorrt-rtx", EngineCache(tmp_path), random_weights=True)
    assert found.targets == ("SM80",)


def exported(name: str, part: str, path: Path, dtype: str, **options: bool) -> tuple[onnx.ModelProto, dict, dict]:
    """A random part's graph, a call of it, and what eager makes of that."""
    recipe = load_recipe(name).model_copy(update={"dtype": dtype})
    module = random_module(recipe, part)
    call = example_call(recipe, module, 2)
    with torch.inference_mode():
        expected = part_of(module).call(module, call)
    export_part(part_of(module), module, call, path, **options)
    return onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True), call, expected


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        tensor.name: tensor.data_type for tensor in model.graph.initializer
    }


@pytest.mark.extended
def test_sdxls_added_embedding_is_joined_in_one_type(tmp_path: Path):
    model, _, _ = exported("micro/sdxl_turbo", "unet", tmp_path / "unet.onnx", "float16")
    known = types(model)
    joined = [{known[name] for name in node.input} for node in model.graph.node if node.op_type == "Concat"]
    assert len(joined) >= 3  # the embedding's and the skip connections'
    assert [each for each in joined if len(each) > 1] == []


@pytest.mark.extended  # exports a UNet
def test_float32_attention_multiplies_queries_and_keys_in_float32_and_the_rest_in_half(tmp_path: Path):
    model, _, _ = exported("micro/sd2", "unet", tmp_path / "unet.onnx", "float16", float32_attention=True)
    known, makers = types(model), {output: node for node in model.graph.node for output in node.output}
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert softmax
    for node in softmax:
        above = makers[node.input[0]]
        while above.op_type != "MatMul":
            above = makers[above.input[0]]
        assert {known[name] for name in above.input} == {onnx.TensorProto.FLOAT}
    products = [known[node.output[0]] for node in model.graph.node if node.op_type == "MatMul"]
    assert products.count(onnx.TensorProto.FLOAT) == len(softmax)
    assert products.count(onnx.TensorProto.FLOAT16) > len(softmax)


@pytest.mark.extended  # exports a UNet
@pytest.mark.parametrize("options", [{}, {"float32_attention": True}])
def test_float32_attention_computes_what_attention_computes(tmp_path: Path, options: dict):
    ort = pytest.importorskip("onnxruntime")
    _, call, expected = exported("micro/sd2", "unet", tmp_path / "unet.onnx", "float32", **options)
    session = ort.InferenceSession(str(tmp_path / "unet.onnx"))
    (noise,) = session.run(["noise"], {name: tensor.numpy() for name, tensor in call.items()})
    assert np.abs(noise - expected["noise"].numpy()).max() < 1e-4


@pytest.mark.extended  # make test-all installs TensorRT-RTX
@pytest.mark.parametrize(
    ("name", "dtype", "parts"),
    [
        ("micro/sdxl_turbo", "float16", ("unet",)),
        ("micro/sd2", "float16", ("unet",)),
        ("micro/sana", "bfloat16", ("text_encoder", "transformer", "vae")),
    ],
)
def test_half_precision_plans_of_random_weights_compile_without_a_gpu(
    name: str, dtype: str, parts: tuple[str, ...], tmp_path: Path
):
    pytest.importorskip("tensorrt_rtx")
    recipe = load_recipe(name)
    engine = recipe.engine.model_copy(update={"parts": parts, "float32_attention": ("unet",)})
    recipe = recipe.model_copy(update={"dtype": dtype, "engine": engine})
    (entry,) = build(recipe, "tensorrt-rtx", EngineCache(tmp_path), ["SM80"], random_weights=True)
    entry.verify()
    assert set(entry.parts) == set(parts)
    for part in parts:
        assert {dtype, "float32", "int64"} >= set(entry.profile(part).dtypes.values())
        assert entry.report["parameters"][part] == count_parameters(recipe, part)
        assert entry.report["peaks_mib"][f"compile {part}"] > 100
    assert dtype in [each for part in parts for each in entry.profile(part).dtypes.values()]
