"""Stable Diffusion 3's parts, in a pipeline of its classes that is a few hundred kilobytes large."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers

from polygen_stream.assets.resources import SHIPPED_WEIGHTS
from polygen_stream.base.errors import UserError
from polygen_stream.engine import parity
from polygen_stream.engine.build import build
from polygen_stream.engine.cache import EngineCache
from polygen_stream.engine.examples import example_call
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.record import recording
from polygen_stream.engine.runtime import EngineModule, use_engines
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import Recipe, load_recipe


def text_encoder(width: int) -> transformers.CLIPTextModelWithProjection:
    config = transformers.CLIPTextConfig(
        vocab_size=1000, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=width,
    )  # fmt: skip
    return transformers.CLIPTextModelWithProjection(config)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Stable Diffusion 3.5's recipe for it: 32 x 32 pixels, two steps, no T5."""
    torch.manual_seed(0)
    tokenizers = SHIPPED_WEIGHTS / "sdxl_turbo"
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, dual_attention_layers=(0,),
            attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=32,
            pooled_projection_dim=40, pos_embed_max_size=24, qk_norm="rms_norm",
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609,
        ),
        text_encoder=text_encoder(16),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(tokenizers / "tokenizer"),
        text_encoder_2=text_encoder(24),
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(tokenizers / "tokenizer_2"),
        text_encoder_3=None,
        tokenizer_3=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sd3")
    pipeline.save_pretrained(folder)
    full = load_recipe("sd35_medium")
    changes = {
        "weights": str(folder), "revision": "main", "width": 32, "height": 32, "dtype": "float32",
        "prompt_tokens": pipeline.tokenizer.model_max_length,
        "sampling": {**full.sampling, "num_inference_steps": 2},
        "engine": full.engine.model_copy(update={"batch": (1, 4, 4), "part_tolerance": 1e-3}),
    }  # fmt: skip
    return full.model_copy(update=changes)


def test_made_up_calls_are_like_those_that_the_pipeline_makes(recipe: Recipe):
    generator = load_generator(recipe)
    with recording(generator.pipeline, recipe.engine.parts) as calls:
        generator.render(parity.CAPTIONS, parity.SEEDS)
    for part in recipe.engine.parts:
        made_up = example_call(recipe, getattr(generator.pipeline, part), len(parity.CAPTIONS))
        forms = [{n: (t.dtype, tuple(t.shape)) for n, t in call.items()} for call in (made_up, calls[part][0])]
        assert forms[0] == forms[1], part
        assert list(made_up) == list(calls[part][0]), part


@pytest.mark.extended  # exports every part
def test_engines_of_every_part_render_what_eager_renders(recipe: Recipe, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    cache = EngineCache(tmp_path)
    (entry,) = build(recipe, "onnxruntime", cache)
    assert set(entry.parts) == {"text_encoder", "text_encoder_2", "transformer", "vae"}
    plain, compiled = load_generator(recipe), load_generator(recipe)
    assert use_engines(compiled, "onnxruntime", threads=1, cache=cache)
    assert all(isinstance(getattr(compiled.pipeline, part), EngineModule) for part in entry.parts)
    pictures = [each.render(["a red car", "a dog"], [1, 2]).astype(int) for each in (plain, compiled)]
    assert pictures[0].std() > 3 and np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[0][0] - pictures[0][1]).max() > 10


@pytest.mark.extended  # make test-all installs TensorRT-RTX
def test_plans_of_every_part_compile_in_bfloat16_without_a_gpu(recipe: Recipe, tmp_path: Path):
    pytest.importorskip("tensorrt_rtx")
    half = recipe.model_copy(update={"dtype": "bfloat16"})
    (entry,) = build(half, "tensorrt-rtx", EngineCache(tmp_path), ["SM80"])
    entry.verify()
    assert set(entry.parts) == set(recipe.engine.parts)
    assert entry.profile("transformer").dtypes["sample"] == "bfloat16"


def test_skipped_layers_are_refused_by_name(recipe: Recipe):
    part = part_of(load_generator(recipe).pipeline.transformer)
    shapes = {"hidden_states": (1, 4, 16, 16), "encoder_hidden_states": (1, 9, 64), "pooled_projections": (1, 40)}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(UserError, match="takes no skip_layers"):
        part.inputs(**tensors, timestep=torch.ones(1), skip_layers=[7])
