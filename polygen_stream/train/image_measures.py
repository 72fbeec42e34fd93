"""What a step measures of each of its images for the feedback board, from features that it has anyway."""

from __future__ import annotations

import torch
from torch import Tensor

from polygen_stream.train.forward import ClipOutput
from polygen_stream.train.text_image_index import TextImageIndex

CHUNK = 1024


@torch.no_grad()
def measure_images(output: ClipOutput, index: TextImageIndex, chunk: int = CHUNK) -> Tensor:
    """Return loss, whether an image is nearest to its own text, and margin, of this rank's images: float [3, N].

    The loss is the cross entropy of the image against the rank's texts, in nats. Texts of the same words as the image's
    own are no candidates. The margin of an image is its cosine similarity with its own text minus that with the other
    text of its caption, T- of T+ and T+ of T-; NaN where the batch does not have both.

    Args:
        output: features of the rank's N images and T texts.
        index: which image shows which text. T- of the pairs are the last texts, and their T+ come right before them.
        chunk: images at a time, so that the measures need little memory beside the step's own.
    """
    images, texts = output.image_features.float(), output.text_features.float()
    own, pairs, count = index.image_text, index.negatives, len(texts)
    place = torch.arange(count, device=texts.device)
    other = torch.where(place >= count - pairs, place - pairs, place + pairs)  # of the texts of pairs
    paired = place >= count - 2 * pairs
    other = torch.where(paired, other, place)
    rows = []
    for part in torch.arange(len(images), device=images.device).split(chunk):
        similarity = images[part] @ texts.T  # [n, T]
        text = own[part]
        its = similarity.gather(1, text[:, None])  # [n, 1]
        same_words = index.text_caption[text][:, None] == index.text_caption[None, :]
        same_words.scatter_(1, text[:, None], value=False)
        among = similarity.masked_fill(same_words, -torch.inf)
        loss = torch.logsumexp(output.logit_scale * among, 1) - output.logit_scale * its[:, 0]
        correct = (its >= among).all(1)
        margin = (its - similarity.gather(1, other[text][:, None]))[:, 0]
        rows.append(torch.stack([loss, correct.float(), margin.masked_fill(~paired[text], torch.nan)]))
    return torch.cat(rows, dim=1)
