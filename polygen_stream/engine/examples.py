"""A pipeline's calls of its parts, made up: the shapes and types that it would pass, without running it.

What a graph is exported with, where nothing is compared with eager: rendering with a full-size generator takes hours
on a machine without a GPU, and one with random weights has nothing to render.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.engine.architecture import latent_factor, text_tokens
from polygen_stream.generators.recipe import Recipe

T5_TOKENS = 256  # StableDiffusion3Pipeline's default for max_sequence_length


def example_call(recipe: Recipe, module: torch.nn.Module, pictures: int) -> dict[str, Tensor]:
    """The named tensors of one call of a module for so many pictures.

    Raises:
        UserError: nothing is known of calls of its class.
    """
    name = type(module).__name__
    if name not in EXAMPLES:
        raise UserError(f"{name} cannot be compiled: engine.parts may name {', '.join(EXAMPLES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EXAMPLES[name](recipe, module, pictures)


def _denoiser_rows(recipe: Recipe, pictures: int) -> int:
    return 2 * pictures if recipe.sampling["guidance_scale"] > 1 else pictures


def _latents(recipe: Recipe, rows: int, channels: int, dtype: torch.dtype) -> Tensor:
    factor = latent_factor(recipe)
    return torch.randn(rows, channels, recipe.height // factor, recipe.width // factor).to(dtype)


def _unet(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    rows, config, dtype = _denoiser_rows(recipe, pictures), module.config, module.dtype
    call = {
        "sample": _latents(recipe, rows, config.in_channels, dtype),
        "timestep": torch.linspace(1, 999, rows),
        "encoder_hidden_states": torch.randn(rows, text_tokens(recipe), config.cross_attention_dim).to(dtype),
    }
    if config.addition_embed_type == "text_time":  # SDXL: a pooled text vector beside six numbers
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        sizes = torch.tensor([recipe.height, recipe.width, 0, 0, recipe.height, recipe.width])
        call["text_embeds"] = torch.randn(rows, pooled).to(dtype)
        call["time_ids"] = sizes.expand(rows, 6).to(dtype).contiguous()
    return call


def _sana_transformer(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    rows, tokens = _denoiser_rows(recipe, pictures), text_tokens(recipe)
    return {
        "sample": _latents(recipe, rows, module.config.in_channels, module.dtype),
        "timestep": torch.linspace(1, 999, rows),
        "encoder_hidden_states": torch.randn(rows, tokens, module.config.caption_channels).to(module.dtype),
        "encoder_attention_mask": _mask(rows, tokens),
    }


def _sd3_transformer(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    rows, config, dtype = _denoiser_rows(recipe, pictures), module.config, module.dtype
    # The CLIP encoders' tokens, then T5's; without T5 the pipeline puts as many zeros there.
    tokens = text_tokens(recipe) + recipe.sampling.get("max_sequence_length", T5_TOKENS)
    return {
        "sample": _latents(recipe, rows, config.in_channels, dtype),
        "timestep": torch.linspace(1, 999, rows),
        "encoder_hidden_states": torch.randn(rows, tokens, config.joint_attention_dim).to(dtype),
        "pooled_projections": torch.randn(rows, config.pooled_projection_dim).to(dtype),
    }


def _kl_decoder(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    # Stable Diffusion's pipelines pass latents in the denoiser's type, whatever the decoder's is.
    return {"latents": _latents(recipe, pictures, module.config.latent_channels, getattr(torch, recipe.dtype))}


def _dc_decoder(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    return {"latents": _latents(recipe, pictures, module.config.latent_channels, module.dtype)}


def _clip_text(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(module.config.vocab_size, (pictures, text_tokens(recipe)))}


def _gemma(recipe: Recipe, module: Any, pictures: int) -> dict[str, Tensor]:
    tokens = text_tokens(recipe)
    return {
        "input_ids": torch.randint(module.config.vocab_size, (pictures, tokens)),
        "attention_mask": _mask(pictures, tokens),
    }


def _mask(rows: int, tokens: int) -> Tensor:
    """Prompts of two thirds of the length, then padding."""
    return (torch.arange(tokens) < tokens * 2 // 3).long().expand(rows, tokens).contiguous()


EXAMPLES: dict[str, Callable[[Recipe, Any, int], dict[str, Tensor]]] = {
    "UNet2DConditionModel": _unet,
    "SanaTransformer2DModel": _sana_transformer,
    "SD3Transformer2DModel": _sd3_transformer,
    "AutoencoderKL": _kl_decoder,
    "AutoencoderDC": _dc_decoder,
    "CLIPTextModel": _clip_text,
    "CLIPTextModelWithProjection": _clip_text,
    "Gemma2Model": _gemma,
}
