"""Calls of any number of rows on engines that are made for a few numbers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Named = Mapping[str, Tensor]


def run_in_sizes(run: Callable[[dict[str, Tensor]], dict[str, Tensor]], inputs: Named, sizes: Sequence[int]) -> dict:
    """Split a call into pieces that `sizes` allows, fill the last one up, and cut the results to the real rows.

    Args:
        run: computes a call whose number of rows is one of `sizes`; its results may be overwritten by the next call.
        inputs: [rows, ...] each.
        sizes: numbers of rows, ascending.
    """
    rows = len(next(iter(inputs.values())))
    if rows in sizes:
        return run(dict(inputs))
    pieces: list[dict[str, Tensor]] = []
    start = 0
    while start < rows:
        left = rows - start
        size = next((size for size in sizes if size >= left), sizes[-1])
        real = min(size, left)
        piece = {name: _filled(tensor[start : start + real], size) for name, tensor in inputs.items()}
        pieces.append({name: tensor[:real].clone() for name, tensor in run(piece).items()})
        start += real
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _filled(tensor: Tensor, rows: int) -> Tensor:
    """Repeat the last row: a real value, where zeros could divide by zero."""
    missing = rows - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) if missing else tensor.contiguous()
