"""Block-masked multi-positive image-text loss with hard negatives.

Legend: N images (I+ and I-), T texts (T+ and T-), D features. Image r belongs to text b(r); text b has k_b
images. Features are L2-normalised, s = exp(logit scale), logits[r, t] = s * image_r . text_t.

    i2t, image r:  -log softmax over ALL texts (T+ and T-), target b(r)
    t2i, text b:   -1/k_b * sum over its own images of log softmax over the CANDIDATE images
    half(+) = 1/2 [ mean over I+ of i2t  +  mean over T+ of t2i ],  half(-) likewise over I- and T-
    loss    = half(+) + |T-|/|T+| * half(-)

Sources. i2t over both text sets and t2i within one polarity are TripletCLIP's (arXiv 2411.02545), whose loss
is the plain sum of the two halves. The uniform target over a caption's own images is StableRep++'s text row.
The merge of the two is our reading of PolyGen; so is the weight |T-|/|T+|, which gives every text the same
weight and lets the negatives fade in with the curriculum instead of jumping to half of the loss with the
first pair. It is 1 when every positive has its negative, where the sum is TripletCLIP's (twice the scale of a
CLIP loss), and 0 without negatives, where the loss is open_clip's `ClipLoss`.

Candidates of t2i (`hn_t2i`), because generated negatives often miss the one thing their caption changed:
    same_polarity  T+ rows see I+ only, T- rows see I- only (TripletCLIP's structure; default)
    none           as above, and T- rows are dropped: negatives act image-to-text only
    all            every text row sees every image: symmetric InfoNCE over both sets, at twice its usual scale
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

HardNegativeT2I = Literal["same_polarity", "none", "all"]


@dataclass(frozen=True)
class Layout:
    """Which image shows which text. Held on the host's side as counts, so that no step waits for the device.

    Args:
        image_text: int64 [N], index of the image's own text in [0, T). Every text has at least one image.
        text_negative: bool [T], True for T-.
        positives: number of T+.
        negatives: number of T-.
        positive_images: number of I+.
        negative_images: number of I-.
    """

    image_text: Tensor
    text_negative: Tensor
    positives: int
    negatives: int
    positive_images: int
    negative_images: int

    @classmethod
    def of(cls, image_text: Tensor, text_negative: Tensor) -> Layout:
        """Counts taken from tensors that are still on the host; move the result with `to`."""
        images_per_text = torch.bincount(image_text, minlength=len(text_negative))
        assert len(images_per_text) == len(text_negative), "an image names a text outside the batch"
        assert bool((images_per_text > 0).all()), "a text without an image has no row to train on"
        negatives = int(text_negative.sum())
        negative_images = int(text_negative[image_text].sum())
        return cls(
            image_text,
            text_negative,
            positives=len(text_negative) - negatives,
            negatives=negatives,
            positive_images=len(image_text) - negative_images,
            negative_images=negative_images,
        )

    def to(self, device: torch.device | str) -> Layout:
        moved = (t.to(device, non_blocking=True) for t in (self.image_text, self.text_negative))
        return Layout(*moved, self.positives, self.negatives, self.positive_images, self.negative_images)


def multi_positive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    layout: Layout,
    *,
    hn_t2i: HardNegativeT2I = "same_polarity",
    image_image_weight: float = 0.0,
    image_image_temperature: float = 0.1,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its detached parts.

    Args:
        image_features: float [N, D], L2-normalised.
        text_features: float [T, D], L2-normalised.
        logit_scale: scalar s, already exponentiated.
        layout: which image shows which text.
        hn_t2i: candidates of the text rows, see the module's text.
        image_image_weight: weight of the image-image term; 0 leaves it out.
        image_image_temperature: its temperature (StableRep: 0.1).

    Returns:
        The scalar loss, and its parts before weighting: i2t, t2i, and where present negative_i2t,
        negative_t2i, image_image. Halves of precision (fp16, bf16) are raised to fp32 first.
    """
    image_features, text_features = (_at_least_fp32(f) for f in (image_features, text_features))
    image_negative = layout.text_negative[layout.image_text]  # [N]
    logits = _at_least_fp32(logit_scale) * image_features @ text_features.T  # [N, T]

    i2t = _image_rows(logits, layout.image_text)  # [N]
    if hn_t2i == "all":
        candidates = torch.ones_like(logits, dtype=torch.bool).T  # [T, N]
    else:
        candidates = layout.text_negative[:, None] == image_negative[None, :]  # [T, N]
    t2i = _text_rows(logits.T, layout.image_text, candidates)  # [T]

    parts = {
        "i2t": i2t.masked_fill(image_negative, 0).sum() / layout.positive_images,
        "t2i": t2i.masked_fill(layout.text_negative, 0).sum() / layout.positives,
    }
    loss = (parts["i2t"] + parts["t2i"]) / 2
    if layout.negatives:
        parts["negative_i2t"] = i2t.masked_fill(~image_negative, 0).sum() / layout.negative_images
        half = parts["negative_i2t"]
        if hn_t2i != "none":
            parts["negative_t2i"] = t2i.masked_fill(~layout.text_negative, 0).sum() / layout.negatives
            half = half + parts["negative_t2i"]
        loss = loss + (layout.negatives / layout.positives) * half / 2
    if image_image_weight:
        same_side = image_negative[:, None] == image_negative[None, :]  # [N, N]
        pool = torch.ones_like(same_side) if hn_t2i == "all" else same_side
        parts["image_image"] = image_image_loss(
            image_features, layout.image_text, pool, temperature=image_image_temperature
        )
        loss = loss + image_image_weight * parts["image_image"]
    return loss, {name: part.detach() for name, part in parts.items()}


def image_image_loss(features: Tensor, image_text: Tensor, pool: Tensor, *, temperature: float) -> Tensor:
    """StableRep's multi-positive contrastive loss between the images of a batch (arXiv 2306.00984).

    Anchor a against every other image of its pool, target uniform over the other images of the same caption;
    an anchor without one costs nothing but still counts in the mean, as in StableRep.
    That an anchor's pool leaves out the other polarity is our reading: an I- that misses its edit would
    otherwise be pushed away from images that show the same thing.

    Args:
        features: float [N, D], L2-normalised.
        image_text: int64 [N], caption of each image.
        pool: bool [N, N], pool[a, i] if image i is a candidate for anchor a; the diagonal is ignored.
        temperature: divides the cosines.
    """
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    own = (image_text[:, None] == image_text[None, :]) & ~itself  # [N, N]
    logits = features @ features.T / temperature
    # The lowest finite number, not -inf: an anchor that is alone in its pool must cost 0, not NaN.
    logits = logits.masked_fill(itself | ~pool, torch.finfo(logits.dtype).min)
    return _soft_rows(logits, own).mean()


def _image_rows(logits: Tensor, image_text: Tensor) -> Tensor:
    """Cross-entropy of every image row [N, T] against its one text: [N]."""
    return torch.nn.functional.cross_entropy(logits, image_text, reduction="none")


def _text_rows(logits: Tensor, image_text: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of every text row [T, N] against its own images, uniformly, over the candidates: [T]."""
    own = image_text[None, :] == torch.arange(len(logits), device=logits.device)[:, None]  # [T, N]
    return _soft_rows(logits.masked_fill(~candidates, -torch.inf), own)


def _soft_rows(logits: Tensor, own: Tensor) -> Tensor:
    """-1/|own| sum over own of log softmax, per row; 0 for a row that owns nothing."""
    log_q = logits.log_softmax(dim=1).masked_fill(~own, 0)
    return -log_q.sum(dim=1) / own.sum(dim=1).clamp(min=1)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
