"""Contrastive losses of a batch of images and texts with hard negatives.

Legend: N images (I+ and I-), T texts (T+ and T-), D features. Image r belongs to text b(r); text b has k_b
images. Features are L2-normalised, s = exp(logit scale), the logit of image r and text t is s * image_r . text_t.

    i2t, image r:  -log softmax over ALL texts (T+ and T-), target b(r)
    t2i, text b:   -1/k_b * sum over its own images of log softmax over the CANDIDATE images

`multi_positive` (default):
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
    all            every text row sees every image

Baselines, in the same multi-positive form:
    negclip        half(+) alone: hard-negative captions without their images (NegCLIP, arXiv 2210.01936)
    infonce        1/2 [ mean over all images of i2t + mean over all texts of t2i over all images ]: I- and T- are
                   ordinary samples, as a curriculum without a loss of its own would have them

Means. i2t averages IMAGES, so a caption with more images weighs more in it; t2i averages captions.

Equal captions. Texts of the same words count as one caption in several copies. An image's target is then uniform over
the copies (StableRep++'s 1/count), a text's over the candidate images of all of them, and each copy keeps its row.

Ranks. With a `group` every rank has the rows of its own images and texts, and the columns of all ranks. Denominators
are those of the whole batch, however unequal the ranks. The loss of a rank is `world` times its share of the sum, so
that the mean of gradients that DistributedDataParallel takes is exactly the gradient of the whole batch's loss.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from polygen_stream.train.chunked_cross_entropy import ABSENT, LabelledRows, chunked_cross_entropy
from polygen_stream.train.gathered_batch import GatheredBatch, gather_batch, gather_images, local_batch
from polygen_stream.train.text_image_index import TextImageIndex

Objective = Literal["multi_positive", "negclip", "infonce"]
HardNegativeT2I = Literal["same_polarity", "none", "all"]


def multi_positive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    layout: TextImageIndex,
    *,
    objective: Objective = "multi_positive",
    hn_t2i: HardNegativeT2I = "same_polarity",
    image_image_weight: float = 0.0,
    image_image_temperature: float = 0.1,
    image_image_features: Tensor | None = None,
    chunk: int = 0,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its detached parts.

    Args:
        image_features: float [N, D], L2-normalised.
        text_features: float [T, D], L2-normalised.
        logit_scale: scalar s, already exponentiated.
        layout: which image shows which text.
        objective: see the module's text.
        hn_t2i: candidates of the text rows of `multi_positive`, see the module's text.
        image_image_weight: weight of the image-image term; 0 leaves it out.
        image_image_temperature: its temperature (StableRep: 0.1).
        image_image_features: float [N, P], L2-normalised: what that term compares, instead of image_features.
        chunk: rows of logits at a time (rows.py); 0 for all at once.
        group: the ranks that share the batch, each calling this with its part; None when there is one.

    Returns:
        The scalar loss, whose mean over the ranks is the loss of the batch; and the parts of the whole batch before
        weighting: i2t, t2i, and where present negative_i2t, negative_t2i, image_image. Halves of precision (fp16,
        bf16) are raised to fp32 first.
    """
    own = local_batch(_at_least_fp32(image_features), _at_least_fp32(text_features), layout)
    columns = own if group is None else gather_batch(own, group)
    rows = _Rows(own, columns, _at_least_fp32(logit_scale), chunk)

    everyone = objective == "infonce" or (hn_t2i == "all" and objective == "multi_positive")
    i2t, t2i = rows.image_text(), rows.text_image(everyone)  # [N], [T]
    if objective == "infonce":
        parts = {"i2t": rows.mean_of_images(i2t, 0, 1), "t2i": rows.mean_of_texts(t2i, 0, 1)}
        loss = (parts["i2t"] + parts["t2i"]) / 2
    else:
        parts = {"i2t": rows.mean_of_images(i2t, 0), "t2i": rows.mean_of_texts(t2i, 0)}
        loss = (parts["i2t"] + parts["t2i"]) / 2
        positives, negatives = columns.text_counts
        if negatives and objective == "multi_positive":
            parts["negative_i2t"] = rows.mean_of_images(i2t, 1)
            half = parts["negative_i2t"]
            if hn_t2i != "none":
                parts["negative_t2i"] = rows.mean_of_texts(t2i, 1)
                half = half + parts["negative_t2i"]
            loss = loss + (negatives / positives) * half / 2
    if image_image_weight:
        features, gathered = own.images, columns.images
        if image_image_features is not None:
            features = _at_least_fp32(image_image_features)
            gathered = features if group is None else gather_images(features, columns, group)
        i2i = rows.image_image(features, gathered, 1 / image_image_temperature, everyone)  # [N]
        sides = (0,) if objective == "negclip" else (0, 1)
        parts["image_image"] = rows.mean_of_images(i2i, *sides)
        loss = loss + image_image_weight * parts["image_image"]
    detached = {name: part.detach() for name, part in parts.items()}
    if group is None:
        return loss, detached
    sums = torch.stack(list(detached.values()))
    dist.all_reduce(sums, group=group)
    return loss * dist.get_world_size(group), dict(zip(detached, sums.unbind(), strict=True))


class _Rows:
    """Losses of this rank's rows against the columns of all ranks, and their means over the whole batch."""

    def __init__(self, own: GatheredBatch, columns: GatheredBatch, scale: Tensor, chunk: int) -> None:
        self._own = own
        self._columns = columns
        self._scale = scale
        self._chunk = chunk

    def image_text(self) -> Tensor:
        """Every image against all texts: [N]."""
        own, columns = self._own, self._columns
        images = LabelledRows(own.images, own.image_caption, _pool(own.image_side, True))
        texts = LabelledRows(columns.texts, columns.text_caption, _pool(columns.text_side, True))
        return chunked_cross_entropy(images, texts, self._scale, chunk=self._chunk)

    def text_image(self, everyone: bool) -> Tensor:
        """Every text against all images, or against those of its polarity: [T]."""
        own, columns = self._own, self._columns
        texts = LabelledRows(own.texts, own.text_caption, _pool(own.text_side, everyone))
        images = LabelledRows(columns.images, columns.image_caption, _pool(columns.image_side, everyone))
        return chunked_cross_entropy(texts, images, self._scale, chunk=self._chunk)

    def image_image(self, features: Tensor, gathered: Tensor, scale: float, everyone: bool) -> Tensor:
        """Every image against all others, or against those of its polarity: [N].

        StableRep's multi-positive contrastive loss (arXiv 2306.00984): the target is uniform over the other images of
        the caption, and an anchor without one costs nothing but still counts in the mean. That an anchor's candidates
        leave out the other polarity is our reading: an I- that misses its edit would otherwise be pushed away from
        images that show the same thing.
        """
        own, columns = self._own, self._columns
        anchors = LabelledRows(features, own.image_caption, _pool(own.image_side, everyone))
        images = LabelledRows(gathered, columns.image_caption, _pool(columns.image_side, everyone))
        return chunked_cross_entropy(anchors, images, scale, chunk=self._chunk, first=columns.own_image)

    def mean_of_images(self, values: Tensor, *sides: int) -> Tensor:
        """This rank's share of the mean over the images of these sides."""
        return _share(values, self._own.image_side, self._columns.image_counts, sides)

    def mean_of_texts(self, values: Tensor, *sides: int) -> Tensor:
        return _share(values, self._own.text_side, self._columns.text_counts, sides)


def _pool(side: Tensor, everyone: bool) -> Tensor:
    """Candidates are those of the same side, or everyone who is there."""
    return side.clamp(max=0) if everyone else side


def _share(values: Tensor, side: Tensor, counts: tuple[int, int], sides: tuple[int, ...]) -> Tensor:
    wanted = side == sides[0] if len(sides) == 1 else side != ABSENT
    return values.masked_fill(~wanted, 0).sum() / sum(counts[s] for s in sides)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
