"""A loaded generator: captions and seeds in, uint8 pictures out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline

from polygen_stream.errors import UserError
from polygen_stream.generators.recipe import Recipe


class Generator:
    """A diffusers pipeline under a recipe.

    A picture is a function of (weights, sampling settings, caption, seed) and, in floating point, of the batch it is
    rendered in: every picture has its own random generator, on the CPU, so that the noise does not depend on the
    device.
    """

    def __init__(self, recipe: Recipe, pipeline: DiffusionPipeline) -> None:
        self.recipe = recipe
        self.pipeline = pipeline

    @torch.inference_mode()
    def render(self, captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Pictures uint8 [n, height, width, 3], one per (caption, seed).

        Values that are not finite become 0: the quality gate sees a black picture.
        """
        recipe = self.recipe
        images = self.pipeline(
            prompt=list(captions),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            width=recipe.width,
            height=recipe.height,
            output_type="pt",
            **recipe.sampling,
        ).images  # float [n, 3, height, width] in 0..1
        images = images.float().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
        return images.permute(0, 2, 3, 1).cpu().numpy()


def load_generator(recipe: Recipe, device: str = "cpu") -> Generator:
    """Load a recipe's pipeline in inference mode. Never runs code from the weights' repository.

    Raises:
        UserError: no such diffusers class; weights missing, damaged, of another class, or not downloaded.
    """
    pipeline_class = getattr(diffusers, recipe.pipeline, None)
    if not (isinstance(pipeline_class, type) and issubclass(pipeline_class, DiffusionPipeline)):
        raise UserError(f"engines/{recipe.name}.toml: diffusers has no pipeline {recipe.pipeline!r}")
    _check_source(recipe)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    try:
        pipeline = pipeline_class.from_pretrained(
            recipe.source,
            torch_dtype=getattr(torch, recipe.dtype),
            use_safetensors=True,
            local_files_only=os.environ.get("HF_HUB_OFFLINE") == "1",
        )
    # from_pretrained raises a library's own error for each way in which a folder can be wrong
    except Exception as problem:
        logging.exception("loading %s", recipe.source)
        raise UserError(
            f"generator {recipe.name}: cannot load {recipe.source} as {recipe.pipeline}: "
            f"{type(problem).__name__}: {problem}; {_remedy(recipe)}"
        ) from None
    pipeline.set_progress_bar_config(disable=True)  # its bar per call; the loading bars are other switches
    return Generator(recipe, pipeline.to(device))


def _check_source(recipe: Recipe) -> None:
    if recipe.weights.startswith("package:") and not (Path(recipe.source) / "model_index.json").is_file():
        raise UserError(f"generator {recipe.name}: no weights at {recipe.source}; {_remedy(recipe)}")


def _remedy(recipe: Recipe) -> str:
    if recipe.weights.startswith("package:"):
        name = recipe.weights.partition(":")[2]
        return f"reinstall polygen-stream, or train them: python tools/train_micro.py {name}"
    return f"download them first: hf download {recipe.weights}"
