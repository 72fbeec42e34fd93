"""The full-size generators compile without weights and without a GPU, by the command that users type.

Each takes tens of minutes and up to 20 GB of memory on a small machine; docs/full-size.md says what was measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.generators.recipe import load_recipe

# Bytes of a plan for each byte of weights: less would mean that weights were folded away, more that they are stored
# twice or in a wider type. Of an autoencoder only the decoder is compiled, and that holds 59 % of the weights or less.
SMALLEST, SMALLEST_DECODER, LARGEST = 0.95, 0.4, 1.15


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("name", ["sd15", "sd2", "sana", "sdxl_turbo", "sd35_medium"])
def test_every_part_of_a_full_size_generator_compiles_without_weights_and_gpu(name: str, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    command = [sys.executable, "-m", "polygen_stream", "build-engines", name, "--random-weights"]
    command += ["--backend", "tensorrt-rtx", "--target", "SM80"]
    environment = {**os.environ, "POLYGEN_STREAM_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (entry,) = EngineCache(tmp_path).entries()
    entry.verify()
    recipe = load_recipe(name)
    assert set(entry.parts) == set(recipe.engine.parts)
    for part in recipe.engine.parts:
        width = {"float32": 4, "float16": 2, "bfloat16": 2}[recipe.dtype_of(part)]
        ratio = entry.engine(part).stat().st_size / (entry.report["parameters"][part] * width)
        assert (SMALLEST_DECODER if part == "vae" else SMALLEST) <= ratio <= LARGEST, part


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_a_full_size_denoiser_in_float32_takes_a_step_in_onnx_runtime_as_in_torch(tmp_path: Path):
    recipe = load_recipe("sd15")
    spec = recipe.engine.model_copy(update={"parts": ("unet",), "part_tolerance": 1e-3})
    recipe = recipe.model_copy(update={"dtype": "float32", "engine": spec})
    (entry,) = build(recipe, "onnxruntime", EngineCache(tmp_path), random_weights=True, say=print)
    entry.verify()
    assert entry.report["parity"]["unet"] <= 1e-3
