"""Renders a preview of a micro generator in training, on captions that are not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
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
    """Write a grid of images, one column per caption, with the painter's image above those of the generator.

    Args:
        pipeline: the generator.
        name: its name in the micro zoo.
        path: the image file; the captions are written to a text file with the same name.
    """
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, Split.UNSEEN if i % 2 else Split.SEEN) for i in range(CAPTIONS)]
    captions = [describe(s, Style.sample(rng)) for s in scenes]
    rows = [np.stack([paint(s, rng) for s in scenes])]
    pipeline.set_progress_bar_config(disable=True)
    render: Any = pipeline  # the base class does not declare __call__
    for seed in range(ROWS):
        generators = [torch.Generator().manual_seed(seed * 100 + i) for i in range(CAPTIONS)]
        images = render(
            prompt=captions, height=SIZE, width=SIZE, output_type="np", generator=generators, **_SAMPLING[name]
        ).images
        rows.append(np.round(images * 255).astype(np.uint8))
    grid = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    size = (grid.shape[1] * ENLARGED, grid.shape[0] * ENLARGED)
    Image.fromarray(grid).resize(size, Image.Resampling.NEAREST).save(path)
    path.with_suffix(".txt").write_text("\n".join(captions))
