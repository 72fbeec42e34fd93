"""A look at a micro generator in training: held-out captions, its pictures, and the painter's above them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.painter import SIZE, paint
from polygen_stream.micro.world import Split, sample_scene

CAPTIONS, ROWS, ENLARGED = 24, 3, 2
_SAMPLING: dict[str, dict[str, object]] = {
    "sd15": {"num_inference_steps": 16, "guidance_scale": 2.0},
    "sd2": {"num_inference_steps": 16, "guidance_scale": 2.0},
    "sana": {
        "num_inference_steps": 12,
        "guidance_scale": 4.5,
        "use_resolution_binning": False,
        "clean_caption": False,
        "complex_human_instruction": None,
        "max_sequence_length": 32,
    },
    "sdxl": {"num_inference_steps": 12, "guidance_scale": 3.5},
    "sdxl_turbo": {"num_inference_steps": 2, "guidance_scale": 0.0},
}


def preview(pipeline: DiffusionPipeline, name: str, path: Path) -> None:
    """Write a grid to `path`, and its captions beside it."""
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, Split.UNSEEN if i % 2 else Split.SEEN) for i in range(CAPTIONS)]
    captions = [describe(s, Style.sample(rng)) for s in scenes]
    rows = [np.stack([paint(s, rng) for s in scenes])]
    pipeline.set_progress_bar_config(disable=True)
    for seed in range(ROWS):
        generators = [torch.Generator().manual_seed(seed * 100 + i) for i in range(CAPTIONS)]
        images = pipeline(
            prompt=captions, height=SIZE, width=SIZE, output_type="np", generator=generators, **_SAMPLING[name]
        ).images
        rows.append(np.round(images * 255).astype(np.uint8))
    grid = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    Image.fromarray(grid).resize((grid.shape[1] * ENLARGED, grid.shape[0] * ENLARGED), 0).save(path)
    path.with_suffix(".txt").write_text("\n".join(captions))
