"""Real builds: compiled parts of the shipped generators, the cache they lie in, and renderers that use them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.parity import ParityError
from polygen_stream.engine.runtime import EngineModule, use_engines
from polygen_stream.errors import PolygenError
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe

pytest.importorskip("onnxruntime")
torch.set_num_threads(1)

MICRO = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")
CAPTIONS, SEEDS = ["a red car on a beach", "two small balls", "a dog"], [3, 4, 5]


def small(name: str = "micro/sd15", **engine: object) -> Recipe:
    """A recipe that compiles its text encoder only: seconds instead of a minute."""
    recipe = load_recipe(name)
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"parts": ("text_encoder",), **engine})})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    cache = EngineCache(tmp_path_factory.mktemp("cache"))
    build(small(), "onnxruntime", cache)
    return cache


def test_a_second_build_finds_the_first(built: EngineCache):
    said: list[str] = []
    entry = build(small(), "onnxruntime", built, say=said.append)
    assert said == ["found in the cache"]
    assert entry.report["parity"]["text_encoder"] <= 1e-3
    assert entry.report["parity"]["pictures"] <= 2.0


def test_a_generator_renders_with_engines_what_it_renders_eager(built: EngineCache):
    eager, engined = load_generator(small()), load_generator(small())
    assert use_engines(engined, "onnxruntime", threads=1, cache=built)
    assert isinstance(engined.pipeline.text_encoder, EngineModule)
    for count in (1, 3):  # batches that the build never saw
        difference = np.abs(
            eager.render(CAPTIONS[:count], SEEDS[:count]).astype(int) - engined.render(CAPTIONS[:count], SEEDS[:count])
        )
        assert difference.mean() <= 0.1


def test_without_engines_it_renders_eager_and_names_the_command(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    generator = load_generator(small())
    with caplog.at_level(logging.WARNING):
        assert not use_engines(generator, "onnxruntime", threads=1, cache=EngineCache(tmp_path))
    assert "micro/sd15 renders eager: " in caplog.text
    assert "polygen-stream build-engines micro/sd15 --backend onnxruntime" in caplog.text
    assert len(generator.render(CAPTIONS, SEEDS)) == 3


def test_a_tampered_engine_is_never_opened(built: EngineCache, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cache = EngineCache(tmp_path)
    entry = build(small(), "onnxruntime", cache)
    content = bytearray(entry.file("text_encoder").read_bytes())
    content[len(content) // 2] ^= 1
    entry.file("text_encoder").write_bytes(content)
    generator = load_generator(small())
    with caplog.at_level(logging.WARNING):
        assert not use_engines(generator, "onnxruntime", threads=1, cache=cache)
    assert "it was changed after the build" in caplog.text
    assert not isinstance(generator.pipeline.text_encoder, EngineModule)


def test_engines_beyond_the_tolerance_are_not_published(tmp_path: Path):
    cache = EngineCache(tmp_path)
    with pytest.raises(ParityError, match="text_encoder: differs from eager by"):
        build(small(part_tolerance=1e-12), "onnxruntime", cache)
    assert cache.entries() == []


def test_a_part_that_cannot_be_compiled_is_named(tmp_path: Path):
    with pytest.raises(PolygenError, match=r"scheduler|DDIMScheduler"):
        build(small(parts=("scheduler",)), "onnxruntime", EngineCache(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
def test_every_part_of_every_micro_generator_is_within_tolerance(name: str, tmp_path: Path):
    recipe = load_recipe(name)
    entry = build(recipe, "onnxruntime", EngineCache(tmp_path))
    assert set(entry.parts) == set(recipe.engine.parts)
    assert all(entry.report["parity"][part] <= 1e-3 for part in recipe.engine.parts)
    assert entry.report["parity"]["pictures"] <= 2.0
