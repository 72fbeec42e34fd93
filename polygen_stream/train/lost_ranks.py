"""Lost ranks: telling the end of another rank from an error of this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from polygen_stream.base.errors import RankLost


@contextmanager
def reporting_lost_ranks(doing: str) -> Iterator[None]:
    """Turn the error of a collective whose other side is gone into RankLost.

    The process group knows only that a connection broke, so the message says where that was noticed. The rank that
    ended first logs the cause, and the supervisor names that rank.

    Args:
        doing: what this rank was doing, for the message.

    Raises:
        RankLost: a collective in the block failed because another rank is gone.
    """
    try:
        yield
    except RuntimeError as problem:
        # NCCL has a type of error for it; gloo raises a plain one.
        if isinstance(problem, dist.DistError) or "gloo" in str(problem):
            raise RankLost(f"another rank is gone: {doing} ({str(problem).splitlines()[0]})") from problem
        raise
