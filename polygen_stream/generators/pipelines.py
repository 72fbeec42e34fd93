"""A loaded generator: captions and seeds in, uint8 pictures out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch.nn.functional import interpolate

from polygen_stream.base.errors import UserError
from polygen_stream.generators.classes import check_arguments, diffusers_classes
from polygen_stream.generators.frozen_weights import FrozenWeights
from polygen_stream.generators.recipe import Recipe


class Generator:
    """A diffusers pipeline under a recipe.

    A picture is a function of (weights, sampling settings, caption, seed) and, in floating point, of the batch it is
    rendered in: every picture has its own random generator, on the CPU, so that the noise does not depend on the
    device.

    Args:
        size: side of the pictures, if not the recipe's: they are made smaller on the device.
    """

    def __init__(self, recipe: Recipe, pipeline: DiffusionPipeline, size: int | None = None) -> None:
        self.recipe = recipe
        self.pipeline: Any = pipeline  # can be called, as every subclass; the base class does not say so
        self.size = size
        self._stream: torch.cuda.Stream | None = None

    def use_own_stream(self) -> None:
        """Render on a CUDA stream of its own from now on, where the pipeline is on a GPU.

        TensorRT has to wait for the whole device at every call that it gets on the default stream.
        """
        if self.pipeline.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.pipeline.device)

    def frozen_weights(self) -> FrozenWeights:
        """Move the weights of all parts, which are in main memory, into one block that can be copied to a GPU."""
        return FrozenWeights(part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module))

    def render(self, captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Pictures uint8 [n, height, width, 3], one per (caption, seed); [n, size, size, 3] where there is a `size`.

        Values that are not finite become 0: the quality gate sees a black picture.
        """
        if self._stream is None:
            return self._render(captions, seeds)
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))  # which has loaded the weights
        with torch.cuda.stream(self._stream):
            return self._render(captions, seeds)  # in main memory, and so computed, when it returns

    @torch.inference_mode()
    def _render(self, captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        recipe = self.recipe
        images = self.pipeline(
            prompt=list(captions),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            width=recipe.width,
            height=recipe.height,
            output_type="pt",
            **recipe.sampling,
        ).images  # float [n, 3, height, width] in 0..1
        images = images.float().nan_to_num(0.0, 0.0, 0.0)
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            # Antialiased, or fine texture would fold into patterns that tell one generator from another.
            images = interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        images = images.clamp(0, 1).mul(255).round().to(torch.uint8)
        return images.permute(0, 2, 3, 1).cpu().numpy()


def load_generator(recipe: Recipe, device: str = "cpu", size: int | None = None) -> Generator:
    """Load a recipe's pipeline in inference mode. Never runs code from the weights' repository.

    Args:
        recipe: The generator's recipe.
        device: As torch names it, e.g. "cpu" or "cuda".
        size: Side of the pictures in pixels, if not the recipe's.

    Raises:
        UserError: No such diffusers class, or it takes no such argument; weights missing, damaged, of another class,
            or not downloaded; a size that the recipe's pictures cannot be made smaller to.
    """
    if size is not None:
        recipe.check_size(size)
    pipeline_class, scheduler_class = diffusers_classes(recipe)
    _check_source(recipe)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    try:
        pipeline = pipeline_class.from_pretrained(
            recipe.source,
            torch_dtype={part: getattr(torch, recipe.dtype_of(part)) for part in ("default", *recipe.dtypes)},
            variant=recipe.variant,
            revision=recipe.revision,
            use_safetensors=True,
            local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1",
            **dict.fromkeys(recipe.without),
        )
    # from_pretrained raises a library's own error for each way in which a folder can be wrong
    except Exception as problem:
        logging.exception("loading %s", recipe.source)
        raise UserError(
            f"generator {recipe.name}: cannot load {recipe.source} as {recipe.pipeline}: "
            f"{type(problem).__name__}: {problem}; {_remedy(recipe)}"
        ) from None
    check_arguments(recipe, type(pipeline))  # "DiffusionPipeline" leaves it to the weights which class it is
    for part, module in pipeline.components.items():
        # diffusers leaves a module in the type of its files where the first tensor is a float32 table, as in SD 3.
        if isinstance(module, torch.nn.Module) and module.dtype != getattr(torch, recipe.dtype_of(part)):
            module.to(getattr(torch, recipe.dtype_of(part)))
    pipeline.set_progress_bar_config(disable=True)  # its bar per call; the loading bars are other switches
    if recipe.scheduler is not None and scheduler_class is not None:
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config, **recipe.scheduler.arguments)
    if "vae" in recipe.dtypes:
        cast_latents(pipeline.vae)
    return Generator(recipe, pipeline.to(device), size)


def cast_latents(vae: torch.nn.Module) -> None:
    """Let an autoencoder decode latents of another type than its own.

    StableDiffusionXLPipeline hands the denoiser's latents to the decoder as they are, and a half-precision denoiser
    may stand beside a decoder that overflows in half precision.
    """
    first = getattr(vae, "post_quant_conv", None) or vae.get_submodule("decoder")  # AutoencoderDC has none
    first.register_forward_pre_hook(lambda module, latents: latents[0].to(next(module.parameters()).dtype))


def _check_source(recipe: Recipe) -> None:
    if not recipe.on_hub and recipe.folder is None:
        raise UserError(f"generator {recipe.name}: no weights at {recipe.source}; {_remedy(recipe)}")


def _remedy(recipe: Recipe) -> str:
    if recipe.weights.startswith("package:"):
        name = recipe.weights.partition(":")[2]
        return f"reinstall polygen-stream, or train them: python tools/train_micro.py {name}"
    if not recipe.on_hub:
        return f"weights in {recipe.origin} has to be a folder with a model_index.json, or a hub id"
    terms = f", after agreeing to the terms at https://huggingface.co/{recipe.weights}" if recipe.gated else ""
    return f"download them first: {recipe.download}{terms}"
