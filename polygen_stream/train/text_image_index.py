"""The text-image index of a batch: which image shows which text, and which texts are hard negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polygen_stream.train.staging import copy_to_device


@dataclass(frozen=True)
class TextImageIndex:
    """Which of a batch's N images shows which of its T texts.

    The counts are Python integers, so that a training step does not wait for the device to learn them.

    Args:
        image_text: int64 [N], index in [0, T) of the text that the image was rendered from. Every text has an image.
        text_negative: bool [T], True for T-.
        text_caption: int64 [T], caption id: equal for texts of the same words and different for others, on every rank.
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
    def from_tensors(
        cls, image_text: Tensor, text_negative: Tensor, text_caption: Tensor | None = None
    ) -> TextImageIndex:
        """Count texts and images in tensors that are still on the host; move the result with `to`.

        Args:
            image_text: int64 [N], see the class.
            text_negative: bool [T], see the class.
            text_caption: int64 [T], see the class. None gives every text a caption id of its own, which is only right
                for a batch on one rank: on two ranks, text 0 of one would have the id of text 0 of the other.
        """
        images_per_text = torch.bincount(image_text, minlength=len(text_negative))  # [T]
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
        """Return the same index with its tensors on a device."""
        return TextImageIndex(
            copy_to_device(self.image_text, device),
            copy_to_device(self.text_negative, device),
            copy_to_device(self.text_caption, device),
            self.positives,
            self.negatives,
            self.positive_images,
            self.negative_images,
        )
