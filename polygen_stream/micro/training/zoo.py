"""The architectures of the four micro generators: the paper's pipeline classes in miniature.

Each `build_*` returns a diffusers pipeline with fresh weights; `tools/train_micro.py` trains them and saves them in the
folder format that `from_pretrained` reads. Latents have about unit variance per channel (the autoencoders are trained
to), so every `scaling_factor` is 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
)

from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.world import sample_scene

MAX_TOKENS = 32  # longest caption of the grammar (26 words) with its start and end tokens, rounded up
# Stable Diffusion's betas with a larger end: its own (0.012) leave 7 % of the signal at the last timestep, enough on
# latents this small for the background to be read off the noise and for the caption to be ignored.
BETAS = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


def build_kl_f4() -> AutoencoderKL:
    """32x32 pictures <-> 8x8 latents of 4 channels: the autoencoder of the Stable Diffusion classes."""
    return _kl((16, 32, 64), latent_channels=4)


def build_dc_f8() -> AutoencoderDC:
    """32x32 pictures <-> 4x4 latents of 32 channels: a deep-compression autoencoder, as SANA's."""
    blocks, widths = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"), (16, 32, 64, 128)
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
    """The SD 1.5 class: epsilon prediction, one CLIP text encoder, DDIM."""
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_clip_text_config(tokenizer, width=96)),
        tokenizer=tokenizer,
        unet=_unet(vae, context=96, attention_head_dim=8),
        scheduler=DDIMScheduler(
            **BETAS, prediction_type="epsilon", timestep_spacing="trailing", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sd2(vae: AutoencoderKL) -> StableDiffusionPipeline:
    """The SD 2 class: v-prediction with zero terminal SNR, a wider text encoder, linear projections, DDIM."""
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_clip_text_config(tokenizer, width=128)),
        tokenizer=tokenizer,
        unet=_unet(vae, context=128, attention_head_dim=(3, 6), use_linear_projection=True),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            rescale_betas_zero_snr=True,
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sana(vae: AutoencoderDC) -> SanaPipeline:
    """The SANA class: linear-attention transformer, Gemma 2 text encoder, flow matching, DPM-Solver++."""
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
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
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
    """The SDXL-Turbo class: SDXL's architecture, a few Euler-ancestral steps without guidance."""
    return build_sdxl(vae)


def build_sdxl(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """The SDXL class: two text encoders, size conditioning, epsilon prediction. Turbo's teacher."""
    tokenizer, tokenizer_2 = clip_tokenizer(), clip_tokenizer()
    narrow, wide = 64, 96
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
        scheduler=EulerAncestralDiscreteScheduler(
            **BETAS, prediction_type="epsilon", timestep_spacing="trailing", steps_offset=1
        ),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """A byte-level BPE tokenizer of CLIP's class over the grammar's captions; every word becomes one token."""
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
    merges = [tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in bpe["merges"]]
    return CLIPTokenizer(vocab=bpe["vocab"], merges=merges, model_max_length=MAX_TOKENS)


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a start token, as the Gemma class expects."""
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


def _captions(count: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield describe(sample_scene(rng), Style.sample(rng))


def _clip_words(captions: Iterable[str]) -> Iterator[str]:
    """Words one by one: CLIP's pre-tokenizer never merges over a space."""
    for caption in captions:
        yield from caption.split()


def _kl(widths: tuple[int, ...], latent_channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
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
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet(vae: AutoencoderKL, context: int, **changes: object) -> UNet2DConditionModel:
    channels = vae.config.latent_channels
    settings: dict[str, object] = {
        "sample_size": 32 // 2 ** (len(vae.config.block_out_channels) - 1),
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
