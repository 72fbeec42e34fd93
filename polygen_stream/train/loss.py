"""Contrastive losses of a batch of images and texts with hard negatives.

Notation: N images (I+ and I-), T texts (T+ and T-), D features. Image r belongs to text b(r); text b has k_b
images. Features are L2-normalised, s = exp(logit scale), the logit of image r and text t is s * image_r . text_t.

    i2t, image r:  -log softmax over ALL texts (T+ and T-), target b(r)
    t2i, text b:   -1/k_b * sum over its own images of log softmax over the CANDIDATE images

`multi_positive` (default):
    half(+) = 1/2 [ mean over I+ of i2t  +  mean over T+ of t2i ],  half(-) likewise over I- and T-
    loss    = half(+) + w * half(-)

Sources. i2t over both text sets and t2i within one polarity are TripletCLIP's (arXiv 2411.02545), whose loss
is the plain sum of the two halves. The uniform target over a caption's own images is StableRep++'s text row.

Weight of the negatives' half (`hn_weight`):
    text_share     w = |T-|/|T+| (default, our reading of PolyGen). Every text has the same weight, and the negatives
                   fade in with the curriculum instead of jumping to half of the loss with the first pair.
    one            w = 1 however few the negatives are, as in the training code of PolyGen's first author.
Both are 1 when every positive has its negative, where the sum is TripletCLIP's (twice the scale of a CLIP loss), and
without negatives the loss is open_clip's `ClipLoss`.

Candidates of t2i (`hn_t2i`), because generated negatives often miss the one thing their caption changed:
    same_polarity  T+ rows see I+ only, T- rows see I- only (TripletCLIP's structure; default)
    none           as above, and T- rows are dropped: negatives act image-to-text only
    all            every text row sees every image

Candidates of the image-image term (`image_image_candidates`):
    hn_t2i         those of the text rows: images of the anchor's polarity, or every image with hn_t2i = "all" (default)
    all            every other image, as in the first author's code

Baselines, in the same multi-positive form:
    negclip        half(+) alone: hard-negative captions without their images (NegCLIP, arXiv 2210.01936)
    infonce        1/2 [ mean over all images of i2t + mean over all texts of t2i over all images ]: I- and T- are
                   ordinary samples, as in a curriculum without a hard-negative loss

Means. i2t averages IMAGES, so a caption with more images weighs more in it; t2i averages captions.

Equal captions. Texts of the same words are copies of one caption. An image's soft target is then uniform over the
copies (StableRep++'s 1/count), a text's over the candidate images of all of them, and each copy keeps its row.

Ranks. With a `group` the rows are a rank's own images and texts, and the candidates are those of all ranks. Means
divide by the counts of the whole batch, however unequal the ranks. The loss of a rank is `world_size` times its part of
the sum, so that the mean of gradients that DistributedDataParallel takes is exactly the gradient of the batch's loss.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from polygen_stream.train.chunked_cross_entropy import PADDING, LabelledFeatures, chunked_cross_entropy
from polygen_stream.train.gathered_batch import GatheredBatch, gather_batch, gather_images, local_batch
from polygen_stream.train.text_image_index import TextImageIndex

LossName = Literal["multi_positive", "negclip", "infonce"]
HardNegativeT2I = Literal["same_polarity", "none", "all"]
HardNegativeWeight = Literal["text_share", "one"]
ImageImageCandidates = Literal["hn_t2i", "all"]


def multi_positive_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    index: TextImageIndex,
    *,
    objective: LossName = "multi_positive",
    hn_t2i: HardNegativeT2I = "same_polarity",
    hn_weight: HardNegativeWeight = "text_share",
    image_image_weight: float = 0.0,
    image_image_temperature: float = 0.1,
    image_image_candidates: ImageImageCandidates = "hn_t2i",
    image_image_features: Tensor | None = None,
    chunk: int = 0,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch and its detached parts.

    Args:
        image_features: float [N, D], L2-normalised.
        text_features: float [T, D], L2-normalised.
        logit_scale: scalar s, already exponentiated.
        index: which image shows which text.
        objective: see the module's text.
        hn_t2i: candidates of the text rows of `multi_positive`, see the module's text.
        hn_weight: weight of the negatives' half of `multi_positive`, see the module's text.
        image_image_weight: weight of the image-image term; 0 leaves it out.
        image_image_temperature: temperature of the image-image term (StableRep: 0.1).
        image_image_candidates: candidates of the image-image term, see the module's text.
        image_image_features: float [N, P], L2-normalised: what the image-image term compares instead of image_features.
        chunk: rows of logits at a time (chunked_cross_entropy.py); 0 for all at once.
        group: the ranks that share the batch, each of which calls this with its part; None for a single process.

    Returns:
        The scalar loss, whose mean over the ranks is the loss of the batch; and the parts of the whole batch before
        weighting: i2t, t2i, and where present negative_i2t, negative_t2i, image_image. fp16 and bf16 inputs are raised
        to fp32 first.
    """
    local = local_batch(_at_least_fp32(image_features), _at_least_fp32(text_features), index)
    gathered = local if group is None else gather_batch(local, group)
    terms = _ContrastiveTerms(local, gathered, _at_least_fp32(logit_scale), chunk)

    all_images = objective == "infonce" or (hn_t2i == "all" and objective == "multi_positive")
    i2t, t2i = terms.image_to_text(), terms.text_to_image(all_images)  # [N], [T]
    if objective == "infonce":
        parts = {"i2t": terms.mean_over_images(i2t, 0, 1), "t2i": terms.mean_over_texts(t2i, 0, 1)}
        loss = (parts["i2t"] + parts["t2i"]) / 2
    else:
        parts = {"i2t": terms.mean_over_images(i2t, 0), "t2i": terms.mean_over_texts(t2i, 0)}
        loss = (parts["i2t"] + parts["t2i"]) / 2
        positives, negatives = gathered.text_counts
        if negatives and objective == "multi_positive":
            parts["negative_i2t"] = terms.mean_over_images(i2t, 1)
            half = parts["negative_i2t"]
            if hn_t2i != "none":
                parts["negative_t2i"] = terms.mean_over_texts(t2i, 1)
                half = half + parts["negative_t2i"]
            loss = loss + (negatives / positives if hn_weight == "text_share" else 1.0) * half / 2
    if image_image_weight:
        own_features, all_features = local.images, gathered.images  # [N, D], [M, D]
        if image_image_features is not None:
            own_features = _at_least_fp32(image_image_features)  # [N, P]
            all_features = own_features if group is None else gather_images(own_features, gathered, group)  # [M, P]
        mixed = all_images or image_image_candidates == "all"
        i2i = terms.image_to_image(own_features, all_features, 1 / image_image_temperature, mixed)  # [N]
        polarities = (0,) if objective == "negclip" else (0, 1)
        parts["image_image"] = terms.mean_over_images(i2i, *polarities)
        loss = loss + image_image_weight * parts["image_image"]
    detached = {name: part.detach() for name, part in parts.items()}
    if group is None:
        return loss, detached
    sums = torch.stack(list(detached.values()))
    dist.all_reduce(sums, group=group)
    return loss * dist.get_world_size(group), dict(zip(detached, sums.unbind(), strict=True))


class _ContrastiveTerms:
    """Cross entropies of this rank's images and texts against the gathered batch, and their means over that batch."""

    def __init__(self, local: GatheredBatch, gathered: GatheredBatch, scale: Tensor, chunk: int) -> None:
        self._local = local
        self._gathered = gathered
        self._scale = scale
        self._chunk = chunk

    def image_to_text(self) -> Tensor:
        """Contrast every image with all texts: [N]."""
        local, gathered = self._local, self._gathered
        images = LabelledFeatures(local.images, local.image_caption, _pool(local.image_polarity, True))
        texts = LabelledFeatures(gathered.texts, gathered.text_caption, _pool(gathered.text_polarity, True))
        return chunked_cross_entropy(images, texts, self._scale, chunk=self._chunk)

    def text_to_image(self, all_images: bool) -> Tensor:
        """Contrast every text with all images, or with those of its polarity: [T]."""
        local, gathered = self._local, self._gathered
        texts = LabelledFeatures(local.texts, local.text_caption, _pool(local.text_polarity, all_images))
        images = LabelledFeatures(gathered.images, gathered.image_caption, _pool(gathered.image_polarity, all_images))
        return chunked_cross_entropy(texts, images, self._scale, chunk=self._chunk)

    def image_to_image(self, own_features: Tensor, all_features: Tensor, scale: float, all_images: bool) -> Tensor:
        """Contrast every image with all others, or with those of its polarity: [N].

        StableRep's multi-positive contrastive loss (arXiv 2306.00984): the target is uniform over the other images of
        the caption, and an anchor without one costs nothing but still counts in the mean. Leaving out the other
        polarity is our reading: an I- that misses its edit would otherwise be pushed away from images that show the
        same thing.

        Args:
            own_features: float [N, P] of this rank's images.
            all_features: float [M, P] of the gathered images.
            scale: 1 / temperature.
            all_images: whether the candidates are of both polarities.
        """
        local, gathered = self._local, self._gathered
        anchors = LabelledFeatures(own_features, local.image_caption, _pool(local.image_polarity, all_images))
        images = LabelledFeatures(all_features, gathered.image_caption, _pool(gathered.image_polarity, all_images))
        return chunked_cross_entropy(anchors, images, scale, chunk=self._chunk, row_offset=gathered.image_offset)

    def mean_over_images(self, values: Tensor, *polarities: int) -> Tensor:
        """Return this rank's part of the mean of [N] over the images of these polarities."""
        return _partial_mean(values, self._local.image_polarity, self._gathered.image_counts, polarities)

    def mean_over_texts(self, values: Tensor, *polarities: int) -> Tensor:
        """Return this rank's part of the mean of [T] over the texts of these polarities."""
        return _partial_mean(values, self._local.text_polarity, self._gathered.text_counts, polarities)


def _pool(polarity: Tensor, both: bool) -> Tensor:
    """Candidate pools: one for each polarity, or one for both. Padding stays PADDING."""
    return polarity.clamp(max=0) if both else polarity


def _partial_mean(values: Tensor, polarity: Tensor, counts: tuple[int, int], polarities: tuple[int, ...]) -> Tensor:
    selected = polarity == polarities[0] if len(polarities) == 1 else polarity != PADDING
    return values.masked_fill(~selected, 0).sum() / sum(counts[p] for p in polarities)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
