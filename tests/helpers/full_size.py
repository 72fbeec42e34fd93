"""Full-size pipelines on a GPU: the architectures of the shipped recipes, with weights that were never written."""

from __future__ import annotations

from unittest import mock

import diffusers
import torch
import transformers

from polygen_stream.assets.resources import model_path
from polygen_stream.engine.architecture import architecture
from polygen_stream.engine.random_weights import _create, _default_dtype
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import load_recipe

DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
# By recipe: the scheduler of its repository, and the tokenizers of the micro generators that stand in for its own.
REPOSITORIES = {
    "sd15": (diffusers.PNDMScheduler(**DIFFUSION, set_alpha_to_one=False, skip_prk_steps=True), ["sd15/tokenizer"]),
    "sd2": (diffusers.PNDMScheduler(**DIFFUSION, set_alpha_to_one=False, skip_prk_steps=True), ["sd15/tokenizer"]),
    "sana": (
        diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        ["sana/tokenizer"],
    ),
    "sdxl_turbo": (
        diffusers.EulerAncestralDiscreteScheduler(**DIFFUSION, timestep_spacing="trailing"),
        ["sdxl_turbo/tokenizer", "sdxl_turbo/tokenizer_2"],
    ),
    "sd35_medium": (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        ["sdxl_turbo/tokenizer", "sdxl_turbo/tokenizer_2"],
    ),
}
PARTS = ("text_encoder", "text_encoder_2", "unet", "transformer", "vae")


def load_full_size(name: str, device: str) -> Generator:
    """Load a shipped recipe as a renderer does, but for the files: there are none.

    Args:
        name: Of the recipe.
        device: Where its weights are made; no memory of the host is taken for those on a null GPU.
    """
    recipe = load_recipe(name)
    scheduler, tokenizers = REPOSITORIES[name]
    known = {part: _empty(recipe, part, device) for part in PARTS if part in recipe.parameters}
    for part, path in zip(("tokenizer", "tokenizer_2"), tokenizers, strict=False):
        folder, _, sub = path.partition("/")
        known[part] = transformers.AutoTokenizer.from_pretrained(f"{model_path(f'package:{folder}')}/{sub}")
        known[part].model_max_length = recipe.prompt_tokens
    pipeline_class = getattr(diffusers, recipe.pipeline)
    optional = {"safety_checker", "feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3"}
    absent = dict.fromkeys(optional & set(pipeline_class._get_signature_keys(pipeline_class)[0]))
    if recipe.pipeline == "StableDiffusionPipeline":
        absent["requires_safety_checker"] = False
    pipeline = pipeline_class(scheduler=scheduler, **known, **absent)
    with mock.patch.object(pipeline_class, "from_pretrained", return_value=pipeline):
        return load_generator(recipe, device, size=256)


def find_timesteps_by_position() -> None:
    """Let schedulers begin at their first timestep. They look for its number on a device that compares nothing."""
    for scheduler in (
        diffusers.DPMSolverMultistepScheduler,
        diffusers.EulerAncestralDiscreteScheduler,
        diffusers.FlowMatchEulerDiscreteScheduler,
    ):
        scheduler.index_for_timestep = lambda self, timestep, schedule_timesteps=None: 0


def step_at(timestep: int) -> None:
    """Let DDIM take every step at one timestep. It looks up the one before by a number of the device."""
    step = diffusers.DDIMScheduler.step
    diffusers.DDIMScheduler.step = lambda self, output, _, sample, **options: step(
        self, output, timestep, sample, **options
    )


def _empty(recipe, part: str, device: str) -> torch.nn.Module:
    dtype = getattr(torch, recipe.dtype_of(part))
    with _default_dtype(dtype), torch.device("meta"):
        module = _create(*architecture(recipe, part))
    return module.to(dtype).to_empty(device=device).eval()  # from_pretrained casts tables too
