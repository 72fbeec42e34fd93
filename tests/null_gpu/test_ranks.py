"""Ranks of a trainer with one GPU each: they join over NCCL, agree, and take steps of one batch."""

from __future__ import annotations

import null_gpu
import pytest

from polygen_stream.config import load_config

pytestmark = pytest.mark.rehearsal


@pytest.mark.parametrize(("ranks", "accum_freq", "head"), [(2, 1, 0), (2, 8, 0), (2, 8, 512), (4, 1, 512), (4, 8, 0)])
def test_ranks_take_a_step_of_paper_together(ranks: int, accum_freq: int, head: int, record):
    positives = load_config("paper").generators.positives
    batch = 1024 if accum_freq > 1 else 256
    options = {"ranks": ranks, "device": "cuda", "batch": batch, "accum_freq": accum_freq, "image_image_head": head}
    options |= {"image_image_weight": 0.5} if head else {}
    words = [f"train.{key}={value}" for key, value in options.items()]
    figures = null_gpu.run_ranks("train", ranks, "paper", *words)
    assert [rank["device"] for rank in figures] == [f"cuda:{rank}" for rank in range(ranks)]
    for rank in figures:
        assert rank["agreed"] == [7, "READY"]
        # The null GPU adds nothing up: a sum over the ranks comes back as one rank's own share.
        assert (rank["texts"], rank["images"]) == (batch // ranks, batch // ranks * positives)
        assert rank["step"]["pageable"] == 0 and rank["step"]["collectives"] > 0
        places = [place for place, _ in rank["step"]["waits"]]
        assert all(place.startswith("train/gathered_batch.py") for place in places), places
        assert sum(n for _, n in rank["step"]["waits"]) == 1
    first = figures[0]
    record(
        f"{ranks} ranks, {batch} texts, accum_freq {accum_freq}, head {head}: GiB of a rank (reserved "
        f"{first['reserved']:.1f}), {first['step']['collectives']} collectives",
        f"{first['peak']:.1f}",
    )
