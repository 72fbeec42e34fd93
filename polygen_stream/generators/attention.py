"""Attention of generators that render eager on a GPU: xformers' in UNets where it is installed, else torch's own."""

from __future__ import annotations

import importlib.util
import logging

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from polygen_stream.base.errors import PolygenError


def prefer_xformers(pipeline: DiffusionPipeline) -> bool:
    """Let a UNet on a GPU compute its attention with xformers, if it is installed.

    Not for a pipeline whose parts will be exported: its graph would hold operators that only xformers has. SANA keeps
    its processors, which compute linear attention. diffusers' general switch, `set_attention_backend`, has no effect
    on the processors of either and says nothing (diffusers 0.42), so what the UNet has afterwards is looked at.

    Returns:
        whether xformers is in use.

    Raises:
        PolygenError: diffusers accepted the switch and did not make it.
    """
    unet = getattr(pipeline, "unet", None)
    if pipeline.device.type != "cuda" or not isinstance(unet, UNet2DConditionModel):
        return False
    if importlib.util.find_spec("xformers") is None:
        return False
    try:
        unet.enable_xformers_memory_efficient_attention()  # tries its kernels on a small tensor first
    except Exception as problem:  # whatever a library built for another torch or another GPU raises
        logging.warning("xformers does not work here, torch's own attention is used: %s", problem)
        return False
    found = {type(processor).__name__ for processor in unet.attn_processors.values()}
    if found != {"XFormersAttnProcessor"}:
        raise PolygenError(
            f"asked for xformers, diffusers left {', '.join(sorted(found))} in the UNet: "
            "uninstall xformers, or install another version of diffusers"
        )
    return True
