"""The size of an open_clip model, from its configuration file, without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.assets.model_configs import find_model_config


@dataclass(frozen=True)
class ModelSize:
    """Size of a model.

    Attributes:
        parameters: Parameters of both towers.
        image_size: Side of the images that the image tower takes, in pixels.
        image_bytes: What a step keeps of one image at its largest, in bytes.
        text_bytes: Likewise of one text.
        encoded_image_bytes: What encoding one image takes at its largest, without a backward pass and in 32 bits.
        encoded_text_bytes: Likewise of one text.
    """

    parameters: int
    image_size: int
    image_bytes: int
    text_bytes: int
    encoded_image_bytes: int
    encoded_text_bytes: int


def model_size(model: str) -> ModelSize | None:
    """Return the size of a model of two transformers; None of any other (ResNet, timm, a pretrained text tower).

    A transformer layer of width h has 12 h^2 parameters. What it keeps of a sequence of s tokens under autocast to 16
    bits, in bytes per token and width, for attention that is computed in blocks:

        the input of each layer norm, which computes in 32 bits     2 x 4
        the output of each layer norm                               2 x 2
        queries, keys and values; what attention makes of them      6 + 2
        the hidden layer before and after its activation            8 + 8
                                                                    = 36

    Beside its layers a tower keeps the input of the layer norm before them (4), and where the backward pass begins, in
    the last layer, the gradients of its output (2) and of its hidden layer (8): 14. The image tower also keeps its
    input in 16 bits. Measured with torch 2.14 and open_clip 3.3 as the growth of the allocated memory with the number
    of images: 65.1 MiB an image of ViT-B-16 (64.6 by this formula), 16.9 of ViT-B-32 (16.6), 221.8 of ViT-L-14 (220.7).
    """
    config = find_model_config(model)
    if config is None:
        return None
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "patch_size" not in vision or "width" not in text or not isinstance(vision["layers"], int):
        return None
    width, patch, layers, side = vision["width"], vision["patch_size"], vision["layers"], vision["image_size"]
    tokens = (side // patch) ** 2 + 1
    image = 12 * layers * width**2 + (3 * patch**2 + tokens) * width
    words = 12 * text["layers"] * text["width"] ** 2 + (text["vocab_size"] + text["context_length"]) * text["width"]
    heads = (width + text["width"]) * config["embed_dim"]
    return ModelSize(
        parameters=image + words + heads,
        image_size=side,
        image_bytes=_kept(tokens, width, layers) + 2 * 3 * side**2,
        text_bytes=_kept(text["context_length"], text["width"], text["layers"]),
        encoded_image_bytes=_passing(tokens, width) + 4 * 3 * side**2,
        encoded_text_bytes=_passing(text["context_length"], text["width"]),
    )


def _kept(tokens: int, width: int, layers: int) -> int:
    """Return the bytes that a tower keeps of one sequence."""
    return tokens * width * (36 * layers + 14)


def _passing(tokens: int, width: int) -> int:
    """Return the bytes of one sequence in a layer that keeps nothing for a backward pass, in 32 bits.

    Of the multilayer perceptron, where it is most: the hidden layer, four times as wide, before and after its
    activation; the output of the layer norm, and the residual before and after attention and in a copy. Measured with
    torch 2.14 and open_clip 3.3 with the model's input, for an image and a text: 7.5 and 1.8 MiB of ViT-B-16, 12.7 and
    2.7 of ViT-L-14.
    """
    return 4 * tokens * width * (4 + 4 + 4)
