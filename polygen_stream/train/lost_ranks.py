"""Telling the loss of another rank from an error of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from polygen_stream.base.errors import RankLost


@contextmanager
def reporting_lost_ranks(doing: str) -> Iterator[None]:
    """Turns the error of a collective whose other side is gone into RankLost.

    The process group knows no better than that a connection broke, so this says where it was noticed; whoever ended
    first says what happened, and the supervisor names that one.
    """
    try:
        yield
    except RuntimeError as problem:
        # NCCL has a type of error for it; gloo throws a plain one.
        if isinstance(problem, dist.DistError) or "gloo" in str(problem):
            raise RankLost(f"another rank is gone: {doing} ({str(problem).splitlines()[0]})") from problem
        raise
