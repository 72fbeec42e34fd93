"""Softmax cross-entropy of rows against labelled columns, a chunk of rows at a time.

The logits of a whole batch are rows x columns numbers, and autograd keeps several tensors of that size. In chunks of c
rows only c x columns of them exist at once: a chunk keeps nothing but its features and computes the rest again during
the backward pass, so that memory grows with the batch and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ABSENT = -1  # pool of a padding column, which is nobody's candidate


@dataclass(frozen=True)
class LabelledRows:
    """Features of n images or texts and what tells them apart.

    Args:
        features: float [n, D], L2-normalised.
        caption: int64 [n], equal for what belongs to the same caption.
        pool: int64 [n]; a column is a candidate of a row of the same pool.
    """

    features: Tensor
    caption: Tensor
    pool: Tensor


def chunked_cross_entropy(
    rows: LabelledRows, columns: LabelledRows, scale: Tensor | float, *, chunk: int, first: int | None = None
) -> Tensor:
    """-1/|own| * sum over a row's own columns of log softmax over its candidates: [len(rows)].

    Own are the candidates of the row's caption. A row without any costs 0.

    Args:
        scale: factor of the cosines.
        chunk: rows at a time; 0 for all.
        first: where the rows stand among the columns, if they do; then no row is its own candidate.
    """
    count = len(rows.caption)
    if not chunk or count <= chunk:
        return _chunk(*_tensors(rows), *_tensors(columns), scale, first)
    parts = []
    for start in range(0, count, chunk):
        part = (tensor[start : start + chunk] for tensor in _tensors(rows))
        place = None if first is None else first + start
        parts.append(
            checkpoint(
                _chunk, *part, *_tensors(columns), scale, place, use_reentrant=False, preserve_rng_state=False
            )
        )  # fmt: skip
    return torch.cat(parts)


def _tensors(side: LabelledRows) -> tuple[Tensor, Tensor, Tensor]:
    return side.features, side.caption, side.pool


def _chunk(
    rows: Tensor,  # [r, D]
    row_caption: Tensor,
    row_pool: Tensor,
    columns: Tensor,  # [c, D]
    column_caption: Tensor,
    column_pool: Tensor,
    scale: Tensor | float,
    first: int | None,
) -> Tensor:
    candidates = row_pool[:, None] == column_pool[None, :]  # [r, c]
    if first is not None:
        candidates.diagonal(first).fill_(False)
    own = (row_caption[:, None] == column_caption[None, :]) & candidates  # [r, c]
    logits = (scale * rows) @ columns.T
    # The lowest finite number, not -inf: a row without candidates must cost 0, not NaN.
    logits = logits.masked_fill(~candidates, torch.finfo(logits.dtype).min)
    owned = own.sum(dim=1)  # [r]
    target = logits.masked_fill(~own, 0).sum(dim=1) / owned.clamp(min=1)
    return torch.where(owned > 0, logits.logsumexp(dim=1) - target, 0)
