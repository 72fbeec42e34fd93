"""Scores from L2-normalised features. Every one is a share in 0..1, higher is better."""

from __future__ import annotations

import torch
from torch import Tensor


def zero_shot_accuracy(images: Tensor, classes: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy of image features [n, d] against class features [c, d]; labels int64 [n]."""
    return ((images @ classes.T).argmax(1) == labels).float().mean().item()


def class_features(per_prompt: Tensor) -> Tensor:
    """Prompt ensemble: text features [c, prompts, d] to class features [c, d].

    The mean of normalised features, normalised again (CLIP; LAION-AI/CLIP_benchmark zeroshot_classification.py).
    """
    return torch.nn.functional.normalize(per_prompt.mean(1), dim=-1)


def recall_at_k(queries: Tensor, candidates: Tensor, k: int) -> float:
    """Share of queries [n, d] whose own candidate (the same row of [n, d]) is among the k most similar."""
    similarity = queries @ candidates.T
    own = similarity.diagonal().unsqueeze(1)
    # A tie counts against the model: a constant encoder must not score.
    rank = (similarity >= own).sum(1)
    return (rank <= k).float().mean().item()


def compositional_accuracy(images: Tensor, captions: Tensor, negatives: Tensor) -> Tensor:
    """Per pair, whether cos(I, T+) > cos(I, T-), strictly (RAIVNLab/sugar-crepe main_eval.py): bool [n]."""
    return (images * captions).sum(1) > (images * negatives).sum(1)
