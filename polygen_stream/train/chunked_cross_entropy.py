"""Softmax cross entropy with soft targets, a chunk of rows at a time.

The logits of a whole batch are rows x candidates numbers, and autograd keeps several tensors of that size. In chunks of
c rows only c x candidates of them exist at once: a chunk keeps nothing but its features and recomputes its logits in
the backward pass, so that memory grows with the batch and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PADDING = -1  # candidate pool of padding, which is no row's candidate


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of n images or n texts, with the labels that decide candidates and targets.

    Args:
        features: float [n, D], L2-normalised.
        caption: int64 [n], caption id. A row's positives are its candidates with the same id.
        pool: int64 [n]. A row's candidates are those in the same pool.
    """

    features: Tensor
    caption: Tensor
    pool: Tensor


def chunked_cross_entropy(
    rows: LabelledFeatures,
    candidates: LabelledFeatures,
    scale: Tensor | float,
    *,
    chunk: int,
    row_offset: int | None = None,
) -> Tensor:
    """Return each row's cross entropy with the soft target that is uniform over its positives: [len(rows)].

    -1/|positives| * sum over the positives of log softmax over the row's candidates. A row without positives costs 0.

    Args:
        rows: the anchors.
        candidates: what the anchors are contrasted with.
        scale: factor of the cosines, 1 / temperature.
        chunk: rows at a time; 0 for all at once.
        row_offset: index of the first row among the candidates, where the rows are some of them. A row is then no
            candidate of itself.
    """
    count = len(rows.caption)
    if not chunk or count <= chunk:
        return _cross_entropy(*_tensors(rows), *_tensors(candidates), scale, row_offset)
    losses = []
    for start in range(0, count, chunk):
        part = (tensor[start : start + chunk] for tensor in _tensors(rows))
        offset = None if row_offset is None else row_offset + start
        losses.append(
            checkpoint(
                _cross_entropy, *part, *_tensors(candidates), scale, offset,
                use_reentrant=False, preserve_rng_state=False,
            )
        )  # fmt: skip
    return torch.cat(losses)


def _tensors(labelled: LabelledFeatures) -> tuple[Tensor, Tensor, Tensor]:
    return labelled.features, labelled.caption, labelled.pool


def _cross_entropy(
    rows: Tensor,  # [r, D]
    row_caption: Tensor,  # [r]
    row_pool: Tensor,  # [r]
    candidates: Tensor,  # [c, D]
    candidate_caption: Tensor,  # [c]
    candidate_pool: Tensor,  # [c]
    scale: Tensor | float,
    row_offset: int | None,
) -> Tensor:
    candidate_mask = row_pool[:, None] == candidate_pool[None, :]  # [r, c]
    if row_offset is not None:
        candidate_mask.diagonal(row_offset).fill_(False)
    positive_mask = (row_caption[:, None] == candidate_caption[None, :]) & candidate_mask  # [r, c]
    logits = (scale * rows) @ candidates.T  # [r, c]
    # The lowest finite number, not -inf: a row without candidates must cost 0, not NaN.
    logits = logits.masked_fill(~candidate_mask, torch.finfo(logits.dtype).min)
    positives = positive_mask.sum(dim=1)  # [r]
    target_logit = logits.masked_fill(~positive_mask, 0).sum(dim=1) / positives.clamp(min=1)  # [r]
    return torch.where(positives > 0, logits.logsumexp(dim=1) - target_logit, 0)
