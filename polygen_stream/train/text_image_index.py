"""Which image of a batch shows which text, and which texts are hard negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextImageIndex:
    """N images of T texts. Counts are kept on the host's side, so that no step waits for the device.

    Args:
        image_text: int64 [N], index of the image's own text in [0, T). Every text has at least one image.
        text_negative: bool [T], True for T-.
        text_caption: int64 [T], equal for texts of the same words and different for others, on every rank.
        positives: number of T+.
        negatives: number of T-.
        positive_images: number of I+.
        negative_images: number of I-.
    """

    image_text: Tensor
    text_negative: Tensor
    text_caption: Tensor
    positives: int
    negatives: int
    positive_images: int
    negative_images: int

    @classmethod
    def of(cls, image_text: Tensor, text_negative: Tensor, text_caption: Tensor | None = None) -> TextImageIndex:
        """Counts taken from tensors that are still on the host; move the result with `to`.

        Without `text_caption` every text is a caption of its own. That is for a batch that lies on one rank: on two,
        text 0 of the one would be taken for text 0 of the other.
        """
        images_per_text = torch.bincount(image_text, minlength=len(text_negative))
        assert len(images_per_text) == len(text_negative), "an image names a text outside the batch"
        assert bool((images_per_text > 0).all()), "a text without an image has no row to train on"
        negatives = int(text_negative.sum())
        negative_images = int(text_negative[image_text].sum())
        return cls(
            image_text,
            text_negative,
            torch.arange(len(text_negative)) if text_caption is None else text_caption,
            positives=len(text_negative) - negatives,
            negatives=negatives,
            positive_images=len(image_text) - negative_images,
            negative_images=negative_images,
        )

    def to(self, device: torch.device | str) -> TextImageIndex:
        tensors = (self.image_text, self.text_negative, self.text_caption)
        moved = (t.to(device, non_blocking=True) for t in tensors)
        return TextImageIndex(*moved, self.positives, self.negatives, self.positive_images, self.negative_images)
