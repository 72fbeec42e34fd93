"""What is right, from L2-normalised features: bool per question, never a mean.

One rule for ties and for what is no number, everywhere: a candidate wins only if it is strictly more similar than every
other, so a constant encoder scores nothing, and a NaN neither wins nor loses, so it is never right. On features without
exact ties this is what argmax and top-k give.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 4096  # rows of similarities at a time


def ranks(queries: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
    """Place of each query's own candidate among all, 1 = most similar, ties counted against it: int64 [n].

    Where the own similarity is NaN, the place is one behind the last.

    Args:
        queries: [n, d].
        candidates: [c, d].
        own: int64 [n], the right candidate of each query.
    """
    parts = []
    for rows, index in zip(queries.split(CHUNK), own.split(CHUNK), strict=True):
        similarity = rows @ candidates.T
        mine = similarity.gather(1, index.unsqueeze(1))
        rank = (~(similarity < mine)).sum(1)
        parts.append(torch.where(mine.isnan().squeeze(1), len(candidates) + 1, rank))
    return torch.cat(parts)


def best_ranks(queries: Tensor, candidates: Tensor, owner: Tensor) -> Tensor:
    """As `ranks`, of the best of several own candidates: int64 [n].

    Args:
        queries: [n, d].
        candidates: [c, d].
        owner: int64 [c], the query that each candidate belongs to.
    """
    parts, first = [], 0
    for rows in queries.split(CHUNK):
        similarity = rows @ candidates.T  # [r, c]
        mine = owner.unsqueeze(0) == torch.arange(first, first + len(rows)).unsqueeze(1)
        best = similarity.masked_fill(~mine | similarity.isnan(), -torch.inf).max(1, keepdim=True).values
        rank = (~(similarity < best) & ~mine).sum(1) + 1
        parts.append(torch.where(best.squeeze(1) == -torch.inf, len(candidates) + 1, rank))
        first += len(rows)
    return torch.cat(parts)


def class_features(per_prompt: Tensor) -> Tensor:
    """Prompt ensemble: text features [..., prompts, d] to class features [..., d].

    The mean of normalised features, normalised again (CLIP; LAION-AI/CLIP_benchmark zeroshot_classification.py).
    """
    return torch.nn.functional.normalize(per_prompt.mean(-2), dim=-1)


def more_similar(anchors: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Whether cos(anchor, right) > cos(anchor, wrong), strictly: bool [n].

    With images, captions and hard negatives this is SugarCrepe's score (RAIVNLab/sugar-crepe main_eval.py).
    """
    return (anchors * right).sum(1) > (anchors * wrong).sum(1)


def text_only(first: Tensor, second: Tensor, negative: Tensor) -> Tensor:
    """SugarCrepe++ TOT: two captions that mean the same are closer to each other than either is to the negative.

    Sri-Harsha/scpp VLMs/test_Variants_CLIP.py. bool [n].
    """
    return more_similar(first, second, negative) & more_similar(second, first, negative)


def group_scores(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Winoground's text, image and group score of pairs that differ in little: bool [n] each.

    Text: each picture is closer to its own text. Image: each text is closer to its own picture. Group: both.
    (Thrush et al. 2022, arXiv 2204.03162, equations 1-3.)

    Args:
        images: [n, 2, d].
        texts: [n, 2, d]; text 0 belongs to image 0.
    """
    (i0, i1), (t0, t1) = images.unbind(1), texts.unbind(1)
    text = more_similar(i0, t0, t1) & more_similar(i1, t1, t0)
    image = more_similar(t0, i0, i1) & more_similar(t1, i1, i0)
    return text, image, text & image
