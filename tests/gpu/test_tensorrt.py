"""TensorRT on a GPU."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from polygen_stream.engine.backends import tensorrt_runtime
from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.runtime import accelerate, use_engines
from polygen_stream.engine.source import LoadedSource
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, TensorRtSpec, load_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

MICRO = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")
CAPTIONS, SEEDS = ["a red car on a beach", "two small balls", "a dog"], [3, 4, 5]


@pytest.fixture(autouse=True)
def library() -> None:
    pytest.importorskip("tensorrt")


def recipe_with(name: str = "micro/sd15", parts: tuple[str, ...] | None = None, **options: object) -> Recipe:
    recipe = load_recipe(name)
    changes = {"parts": parts or recipe.engine.parts, "tensorrt": TensorRtSpec(**options)}
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update=changes)})


@pytest.mark.parametrize("name", MICRO)
def test_tensorrt_renders_what_eager_renders(name: str, tmp_path: Path):
    recipe = load_recipe(name)
    (entry,) = build(recipe, "tensorrt", EngineCache(tmp_path))
    assert entry.report["parity"]["pictures"] <= recipe.engine.picture_tolerance


def test_a_generator_with_plans_renders_on_a_stream_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache, recipe = EngineCache(tmp_path), recipe_with(parts=("unet",))
    build(recipe, "tensorrt", cache)
    generator, seen = load_generator(recipe, "cuda"), set()
    assert use_engines(generator, "tensorrt", 1, cache)
    ask = tensorrt_runtime.current_stream
    monkeypatch.setattr(tensorrt_runtime, "current_stream", lambda: seen.add(stream := ask()) or stream)
    generator.render(CAPTIONS, SEEDS)
    assert len(seen) == 1 and seen != {torch.cuda.default_stream().cuda_stream}


@pytest.mark.parametrize("name", MICRO)
def test_recorded_calls_render_what_launched_ones_render(name: str, tmp_path: Path):
    cache, recipe = EngineCache(tmp_path), recipe_with(name)
    build(recipe, "tensorrt", cache)
    launched, recorded = load_generator(recipe, "cuda"), load_generator(recipe_with(name, cuda_graphs=True), "cuda")
    assert use_engines(launched, "tensorrt", 1, cache) and use_engines(recorded, "tensorrt", 1, cache)
    for count in (3, 1, 3, 2):  # each number of pictures is recorded once and replayed once it comes again
        pictures = [each.render(CAPTIONS[:count], SEEDS[:count]).astype(int) for each in (launched, recorded)]
        assert np.abs(pictures[0] - pictures[1]).mean() <= 0.5


def test_the_engines_of_a_generator_take_one_block_of_scratch_memory_and_no_weights_are_left(tmp_path: Path):
    import tensorrt as trt

    cache, recipe = EngineCache(tmp_path), recipe_with()
    (entry,) = build(recipe, "tensorrt", cache)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    sizes = [
        runtime.deserialize_cuda_engine(entry.engine(part).read_bytes()).device_memory_size_v2 for part in entry.parts
    ]
    gc.collect()
    before = torch.cuda.memory_allocated()
    generator = load_generator(recipe, "cuda")
    with_weights = torch.cuda.memory_allocated() - before
    assert use_engines(generator, "tensorrt", 1, cache)
    scratch = {getattr(generator.pipeline, part)._session._scratch for part in entry.parts}
    assert [block.numel() for block in scratch] == [max(sizes)]
    gc.collect()
    taken = torch.cuda.memory_allocated() - before - max(sizes)
    assert taken < with_weights / 2, "the modules' weights are still there"


def test_a_second_build_starts_from_the_first_ones_timings(tmp_path: Path):
    cache = EngineCache(tmp_path)
    build(recipe_with(parts=("unet",)), "tensorrt", cache)
    (timings,) = cache.kept.glob("*.timings")
    first = timings.stat().st_size
    build(recipe_with(parts=("unet",)), "tensorrt", cache, force=True)
    assert first > 1000
    assert timings.stat().st_size == pytest.approx(first, rel=0.05)  # it had little to measure


def test_a_plan_takes_other_weights(tmp_path: Path):
    """Refit from a plan of random weights: quicker than a build, and the pictures are those of the real ones."""
    cache, recipe = EngineCache(tmp_path), recipe_with(parts=("unet",), refit=True)
    (first,) = build(recipe, "tensorrt", cache, random_weights=True)
    (second,) = build(recipe, "tensorrt", cache)
    assert second.report["parity"]["pictures"] <= recipe.engine.picture_tolerance
    assert second.report["seconds"]["compile unet"] < first.report["seconds"]["compile unet"]


@pytest.mark.parametrize("level", [0, 5])
def test_every_optimization_level_is_within_tolerance(level: int, tmp_path: Path):
    recipe = recipe_with(parts=("unet",), optimization_level=level)
    (entry,) = build(recipe, "tensorrt", EngineCache(tmp_path))
    assert entry.report["parity"]["unet"] <= recipe.engine.part_tolerance


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_eight_bits_render_pictures_that_pass_the_gate(kind: str, tmp_path: Path):
    pytest.importorskip("modelopt.onnx.quantization")
    if kind == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8: that begins with SM89")
    recipe = recipe_with(parts=("unet",), quantize={"unet": kind})
    (entry,) = build(recipe, "tensorrt", EngineCache(tmp_path))
    assert entry.report["parity"]["unet"] <= recipe.engine.tensorrt.quantized_tolerance


def test_rtx_plans_built_ahead_of_time_run_on_this_gpu(tmp_path: Path):
    rtx = pytest.importorskip("tensorrt_rtx")
    major, minor = torch.cuda.get_device_capability()
    if not hasattr(rtx.ComputeCapability, f"SM{major}{minor}"):
        pytest.skip(f"TensorRT-RTX {rtx.__version__} builds nothing for SM{major}{minor}")
    cache, recipe = EngineCache(tmp_path), load_recipe("micro/sdxl_turbo")
    (entry,) = build(recipe, "tensorrt-rtx", cache, [f"SM{major}{minor}"])
    source = LoadedSource(recipe, tmp_path, lambda line: None, "cuda")
    generator = load_generator(recipe, "cuda")
    assert use_engines(generator, "tensorrt-rtx", 1, cache)
    expected = source.generator.render(CAPTIONS, SEEDS).astype(int)
    assert np.abs(expected - generator.render(CAPTIONS, SEEDS)).mean() <= recipe.engine.picture_tolerance
    assert entry.key.target == f"SM{major}{minor}"


def test_torch_compile_renders_what_eager_renders():
    recipe = load_recipe("micro/sdxl_turbo")
    eager, compiled = load_generator(recipe, "cuda"), load_generator(recipe, "cuda")
    assert accelerate(compiled, "torch-compile", threads=1)
    pictures = [each.render(CAPTIONS, SEEDS).astype(int) for each in (eager, compiled)]
    assert np.abs(pictures[0] - pictures[1]).mean() <= 2.0
