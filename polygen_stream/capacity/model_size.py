"""The size of an open_clip model, from its configuration file, without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.assets.model_configs import find_model_config


@dataclass(frozen=True)
class ModelSize:
    """Size of a model.

    Attributes:
        parameters: Parameters of both towers.
        image_bytes: Activations of one image, in bytes.
        text_bytes: Activations of one text, in bytes.
    """

    parameters: int
    image_bytes: int
    text_bytes: int


def model_size(model: str) -> ModelSize | None:
    """Return the size of a model of two transformers; None of any other (ResNet, timm, a pretrained text tower).

    A transformer layer of width h has 12 h^2 parameters and keeps 34 s h bytes of a sequence of s tokens in 16-bit
    training, attention computed in blocks (arXiv 2205.05198, section 4.1, without its attention term).
    """
    config = find_model_config(model)
    if config is None:
        return None
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "patch_size" not in vision or "width" not in text or not isinstance(vision["layers"], int):
        return None
    width, patch, layers = vision["width"], vision["patch_size"], vision["layers"]
    tokens = (vision["image_size"] // patch) ** 2 + 1
    image = 12 * layers * width**2 + (3 * patch**2 + tokens) * width
    words = 12 * text["layers"] * text["width"] ** 2 + (text["vocab_size"] + text["context_length"]) * text["width"]
    heads = (width + text["width"]) * config["embed_dim"]
    return ModelSize(
        parameters=image + words + heads,
        image_bytes=34 * tokens * width * layers,
        text_bytes=34 * text["context_length"] * text["width"] * text["layers"],
    )
