"""The image tower of the micro CLIP: a plain convolutional network for 32x32 images, registered with timm.

open_clip's own towers halve the resolution two or three times before their first stage; at 32 pixels the silhouette of
a thing is gone by then. Importing this module registers the tower, so that model_configs/micro.json can name it.
"""

from __future__ import annotations

from itertools import pairwise

from timm.models import register_model
from torch import Tensor, nn

WIDTHS = (24, 48, 96, 160)  # channels at 32, 16, 8 and 4 pixels


class ConvTower(nn.Module):
    """One 3x3 convolution per resolution, and a projection of all positions.

    The last map is flattened and not averaged: captions speak of left, right, above and below.

    Args:
        features: size of the embedding.
        side: of the images, in pixels.
    """

    def __init__(self, features: int, side: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [_block(3, WIDTHS[0])]
        for before, width in pairwise(WIDTHS):
            layers += [nn.MaxPool2d(2), _block(before, width)]
        self.layers = nn.Sequential(*layers)
        self.projection = nn.Linear(WIDTHS[-1] * (side >> len(WIDTHS) - 1) ** 2, features)

    def forward(self, images: Tensor) -> Tensor:
        """Encode float [n, 3, side, side]: [n, features]."""
        return self.projection(self.layers(images).flatten(1))


@register_model
def polygen_micro_conv(pretrained: bool = False, num_classes: int = 128, **_: object) -> ConvTower:
    """Create the tower for timm. `num_classes` is the size of the embedding; there are no pretrained weights."""
    return ConvTower(num_classes)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
