"""Real builds: compiled parts of the shipped generators, the cache they lie in, and generators that use them."""

from __future__ import annotations

import getpass
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polygen_stream.base.errors import PolygenError
from polygen_stream.engine import source
from polygen_stream.engine.build import build
from polygen_stream.engine.cache import LOOK, CacheError, EngineCache
from polygen_stream.engine.parity import CAPTIONS as CAPTIONS_OF_THE_GATE
from polygen_stream.engine.parity import SEEDS as SEEDS_OF_THE_GATE
from polygen_stream.engine.parity import ParityError
from polygen_stream.engine.runtime import EngineModule, use_engines
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe

torch.set_num_threads(1)

MICRO = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")
LIBRARY = {"onnxruntime": "onnxruntime", "openvino": "openvino", "openvino-bf16": "openvino"}
CAPTIONS, SEEDS = ["a red car on a beach", "two small balls", "a dog"], [3, 4, 5]
ARCHITECTURES = ["SM80", "SM89", "SM120"]


def small(**engine: object) -> Recipe:
    """A recipe that compiles its text encoder only: seconds instead of a minute."""
    recipe = load_recipe("micro/sd15")
    changes = {"parts": ("text_encoder",), "bf16": ("text_encoder",), **engine}
    return recipe.model_copy(update={"engine": recipe.engine.model_copy(update=changes)})


@pytest.fixture(scope="module", params=LIBRARY)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(LIBRARY[request.param])
    return request.param


@pytest.fixture(scope="module")
def built(backend: str, tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    cache = EngineCache(tmp_path_factory.mktemp("cache"))
    build(small(), backend, cache)
    return cache


def test_a_second_build_finds_the_first(built: EngineCache, backend: str):
    said: list[str] = []
    (entry,) = build(small(), backend, built, say=said.append)
    assert [line.split(" for ")[0] for line in said] == ["found in the cache"]
    assert entry.report["parity"]["text_encoder"] <= (5e-2 if backend == "openvino-bf16" else 1e-3)
    assert entry.report["parity"]["pictures"] <= 2.0


def test_a_generator_renders_with_engines_what_it_renders_eager(built: EngineCache, backend: str):
    eager, compiled = load_generator(small()), load_generator(small())
    assert use_engines(compiled, backend, threads=1, cache=built)
    assert isinstance(compiled.pipeline.text_encoder, EngineModule)
    for count in (1, 3):  # numbers of pictures that the build never saw
        pictures = [each.render(CAPTIONS[:count], SEEDS[:count]).astype(int) for each in (eager, compiled)]
        assert np.abs(pictures[0] - pictures[1]).mean() <= 2.0


def test_engines_leave_the_process_free_to_run_on_every_core(built: EngineCache, backend: str):
    before = os.sched_getaffinity(0)
    compiled = load_generator(small())
    assert use_engines(compiled, backend, threads=1, cache=built)
    compiled.render(CAPTIONS[:1], SEEDS[:1])
    assert os.sched_getaffinity(0) == before


def test_without_engines_it_renders_eager_and_names_the_command(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    generator = load_generator(small())
    with caplog.at_level(logging.WARNING):
        assert not use_engines(generator, backend, threads=1, cache=EngineCache(tmp_path))
    assert "micro/sd15 renders eager: " in caplog.text
    assert f"polygen-stream build-engines micro/sd15 --backend {backend}" in caplog.text
    assert len(generator.render(CAPTIONS, SEEDS)) == 3


def test_engines_of_another_recipe_are_not_used_and_the_difference_is_told(
    built: EngineCache, backend: str, caplog: pytest.LogCaptureFixture
):
    other = small().model_copy(update={"sampling": {"num_inference_steps": 3, "guidance_scale": 2.0}})
    with caplog.at_level(logging.WARNING):
        assert not use_engines(load_generator(other), backend, threads=1, cache=built)
    assert "was built for other recipe " in caplog.text


def test_a_tampered_engine_is_never_opened(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cache = EngineCache(tmp_path)
    (entry,) = build(small(), backend, cache)
    content = bytearray(entry.engine("text_encoder").read_bytes())
    content[len(content) // 2] ^= 1
    entry.engine("text_encoder").write_bytes(content)
    generator = load_generator(small())
    with caplog.at_level(logging.WARNING):
        assert not use_engines(generator, backend, threads=1, cache=cache)
    assert "it was changed after the build" in caplog.text
    assert not isinstance(generator.pipeline.text_encoder, EngineModule)


def test_engines_beyond_the_tolerance_are_not_published_without_a_reason(backend: str, tmp_path: Path):
    cache, recipe = EngineCache(tmp_path), small(part_tolerance=1e-12, bf16_tolerance=1e-12)
    with pytest.raises(
        ParityError, match=r"text_encoder: differs from eager by .*--accept-difference REASON"
    ) as refused:
        build(recipe, backend, cache)
    assert cache.entries() == []
    (look,) = (cache.root / "refused").iterdir()
    assert str(look) in str(refused.value)
    assert Image.open(look).size == (4 * recipe.width, 2 * recipe.height)

    (entry,) = build(recipe, backend, cache, accept="rounding of this processor")
    accepted = entry.report["accepted"]
    assert accepted["reason"] == "rounding of this processor" and accepted["by"].startswith(f"{getpass.getuser()}@")
    assert len(accepted["differences"]) == 1 and "text_encoder: differs from eager by" in accepted["differences"][0]
    (again,) = cache.entries()
    assert again.report["accepted"] == accepted
    listed = polygen_stream("--list", cache=cache.root).stdout
    assert f"accepted by {accepted['by']}: rounding of this processor" in listed


def test_pictures_that_differ_from_eagers_are_published_and_shown(backend: str, tmp_path: Path):
    """After its chaotic steps a picture may be another one, and no worse."""
    recipe = small(picture_tolerance=1e-9)
    (entry,) = build(recipe, backend, EngineCache(tmp_path))
    assert entry.report["parity"]["pictures"] >= 0 and entry.report["accepted"] is None
    look = np.asarray(Image.open(entry.folder / LOOK))
    assert look.shape == (2 * recipe.height, 4 * recipe.width, 3)
    eager = load_generator(recipe).render(CAPTIONS_OF_THE_GATE, SEEDS_OF_THE_GATE)
    assert np.array_equal(look[: recipe.height], np.concatenate(list(eager), axis=1))
    entry.verify()


def test_black_pictures_are_refused_and_no_reason_helps(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As where half precision overflows: the parts are within tolerance in the calls that were recorded."""
    install = source.install

    def install_and_overflow(generator: Generator, sessions: object) -> None:
        install(generator, sessions)
        decode = generator.pipeline.vae.decode
        generator.pipeline.vae.decode = lambda *a, **k: tuple(torch.full_like(x, torch.nan) for x in decode(*a, **k))

    monkeypatch.setattr(source, "install", install_and_overflow)
    cache = EngineCache(tmp_path)
    with pytest.raises(ParityError, match=r"4 of 4 pictures would be refused: black picture.*refused/micro-sd15-.*png"):
        build(small(), backend, cache, accept="looks fine to me")
    assert cache.entries() == []


def test_a_part_that_cannot_be_compiled_is_named(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(PolygenError, match=r"DDIMScheduler cannot be compiled"):
        build(small(parts=("scheduler",)), "onnxruntime", EngineCache(tmp_path))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MICRO)
def test_plans_of_every_part_for_gpus_that_are_not_here(name: str, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    recipe, cache, said = load_recipe(name), EngineCache(tmp_path), []
    entries = build(recipe, "tensorrt-rtx", cache, targets=ARCHITECTURES, say=said.append)
    assert [entry.key.target for entry in entries] == ARCHITECTURES
    assert [said.count(f"export {part}") for part in recipe.engine.parts] == [1] * len(recipe.engine.parts)
    assert len(cache.entries()) == len(entries)
    for entry in cache.entries():
        entry.verify()
        assert set(entry.parts) == set(recipe.engine.parts)
    plans = {entry.engine("vae").read_bytes() for entry in entries}
    assert len(plans) == len(ARCHITECTURES)  # each is for its own
    damaged = bytearray(entries[0].engine("vae").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    entries[0].engine("vae").write_bytes(damaged)
    with pytest.raises(CacheError, match=r"vae\.plan has SHA-256 .* it was changed after the build"):
        cache.find(entries[0].key).verify()


def polygen_stream(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "build-engines", *words]
    environment = {"POLYGEN_STREAM_CACHE": str(cache), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_command_lists_verifies_and_collects(backend: str, built: EngineCache):
    listed = polygen_stream("--list", cache=built.root)
    assert f"micro/sd15  {backend} " in listed.stdout
    assert polygen_stream("--verify", cache=built.root).stdout.endswith(": intact\n")
    planned = polygen_stream("micro/sd15", "--backend", backend, "--dry-run", cache=built.root)
    assert "to build, 3.1 M parameters, about 12 MiB" in planned.stdout  # the shipped recipe compiles more parts
    removed = polygen_stream("micro/sd15", "--backend", backend, "--collect", cache=built.root)
    assert removed.stdout.startswith("removed ")
    assert built.entries() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
def test_every_part_of_every_micro_generator_is_within_tolerance(name: str, backend: str, tmp_path: Path):
    recipe = load_recipe(name)
    (entry,) = build(recipe, backend, EngineCache(tmp_path))
    assert set(entry.parts) == set(recipe.engine.parts)
    for part in recipe.engine.parts:
        reduced = backend == "openvino-bf16" and part in recipe.engine.bf16
        assert entry.report["parity"][part] <= (5e-2 if reduced else 1e-3), part
    assert entry.report["parity"]["pictures"] <= 2.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MICRO)
def test_half_precision_plans_of_every_part(name: str, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    recipe = load_recipe(name).model_copy(update={"dtype": "float16"})
    for entry in build(recipe, "tensorrt-rtx", EngineCache(tmp_path), targets=ARCHITECTURES):
        entry.verify()
        assert set(entry.parts) == set(recipe.engine.parts)
