"""The architectures of the four micro generators: the paper's pipeline classes at a small size.

Each `build_*` returns a diffusers pipeline with fresh weights; `tools/train_micro.py` trains them and saves them in the
format that `from_pretrained` loads. The autoencoders are trained to latents of about unit variance per channel, so
every `scaling_factor` is 1.

Constructors of diffusers get their arguments from dictionaries of `Any`: their annotations are narrower than what they
accept (schedulers as an enum, tuples of length one, optional parts as required).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.sana.pipeline_sana import SanaPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.world import sample_scene

MAX_TOKENS = 32  # the longest caption of the grammar (26 words) with its start and end tokens, rounded up
# Stable Diffusion's betas with a larger end. Its own end (0.012) leaves 7 % of the signal at the last timestep. On
# latents this small, that is enough for a denoiser to infer the background from the noise and to ignore the caption.
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


def build_kl_f4() -> AutoencoderKL:
    """Return the autoencoder of the SD 1.5 class: 32x32 images, 8x8 latents with 4 channels."""
    return _kl_f4((16, 32, 64))


def build_kl_f4_sd2() -> AutoencoderKL:
    """Return the autoencoder of the SD 2 class, which has weights of its own in the architecture of SD 1.5's."""
    return _kl_f4((16, 32, 64))


def build_kl_f4_sdxl() -> AutoencoderKL:
    """Return the autoencoder of the SDXL-Turbo class: wider at full resolution, narrower at that of the latents."""
    return _kl_f4((24, 32, 48))


def _kl_f4(widths: tuple[int, int, int]) -> AutoencoderKL:
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths,
    }
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        **settings,
    )


def build_dc_f8() -> AutoencoderDC:
    """Return the autoencoder of the SANA class, of deep compression: 32x32 images, 4x4 latents with 32 channels."""
    blocks: Any = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock")
    widths = (16, 32, 64, 128)
    return AutoencoderDC(
        in_channels=3,
        latent_channels=32,
        attention_head_dim=16,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def build_sd15(vae: AutoencoderKL) -> StableDiffusionPipeline:
    """Return a pipeline of the SD 1.5 class: epsilon prediction, one CLIP text encoder, DDIM."""
    scheduler = DDIMScheduler(
        **BETAS, prediction_type="epsilon", timestep_spacing="trailing", clip_sample=False, steps_offset=1
    )
    return _stable_diffusion(vae, scheduler, context=96, attention_head_dim=8)


def build_sd2(vae: AutoencoderKL) -> StableDiffusionPipeline:
    """Return a pipeline of the SD 2 class: v-prediction with zero terminal SNR, linear projections, DDIM."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        steps_offset=1,
    )
    return _stable_diffusion(vae, scheduler, context=128, attention_head_dim=(3, 6), use_linear_projection=True)


def build_sana(vae: AutoencoderDC) -> SanaPipeline:
    """Return a pipeline of the SANA class: linear attention, Gemma 2 text encoder, flow matching, DPM-Solver++."""
    tokenizer = gemma_tokenizer()
    text_encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=24,
            query_pre_attn_scalar=24,
            max_position_embeddings=512,
            **special_tokens(tokenizer),
        )
    )
    transformer = SanaTransformer2DModel(
        in_channels=32,
        out_channels=32,
        num_layers=6,
        num_attention_heads=6,
        attention_head_dim=24,
        num_cross_attention_heads=6,
        cross_attention_head_dim=24,
        cross_attention_dim=144,
        caption_channels=96,
        sample_size=4,
        patch_size=1,
    )
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0, algorithm_type="dpmsolver++"
    )
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
    )


def build_sdxl_turbo(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """Return a pipeline of the SDXL-Turbo class: SDXL's architecture, few Euler-ancestral steps, no guidance."""
    return build_sdxl(vae)


def build_sdxl(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """Return a pipeline of the SDXL class, which teaches Turbo: two text encoders, size conditioning."""
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer()
    narrow, wide = 64, 96
    scheduler: Any = EulerAncestralDiscreteScheduler(
        **BETAS, prediction_type="epsilon", timestep_spacing="trailing", steps_offset=1
    )
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_clip_text_config(tokenizer, width=narrow)),
        text_encoder_2=CLIPTextModelWithProjection(_clip_text_config(tokenizer_2, width=wide)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=_unet(
            vae,
            context=narrow + wide,
            attention_head_dim=(3, 6),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + wide,
        ),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """Train a byte-level BPE tokenizer of CLIP's class on captions of the grammar; every word becomes one token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
    )
    tokenizer.train_from_iterator(_clip_words(_captions(4000)), trainer)
    bpe = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in bpe["merges"]]
    return CLIPTokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=MAX_TOKENS)


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with a start token, which the Gemma class expects."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_captions(4000), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the ids of the special tokens, as arguments of a model's config."""
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _captions(count: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield describe(sample_scene(rng), Style.sample(rng))


def _clip_words(captions: Iterable[str]) -> Iterator[str]:
    """Yield single words: CLIP's pre-tokenizer never merges over a space."""
    for caption in captions:
        yield from caption.split()


def _stable_diffusion(
    vae: AutoencoderKL, scheduler: DDIMScheduler, context: int, **unet: Any
) -> StableDiffusionPipeline:
    """Return a pipeline with one CLIP text encoder of width `context` and without a safety checker."""
    tokenizer = clip_tokenizer()
    parts: dict[str, Any] = {"scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_clip_text_config(tokenizer, width=context)),
        tokenizer=tokenizer,
        unet=_unet(vae, context=context, **unet),
        requires_safety_checker=False,
        **parts,
    )


def _clip_text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="gelu",
        **special_tokens(tokenizer),
    )


def _unet(vae: AutoencoderKL, context: int, **changes: Any) -> UNet2DConditionModel:
    channels = vae.config["latent_channels"]
    settings: dict[str, Any] = {
        "sample_size": 32 // 2 ** (len(vae.config["block_out_channels"]) - 1),
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (48, 96),
        "layers_per_block": 1,
        "cross_attention_dim": context,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**{**settings, **changes})
