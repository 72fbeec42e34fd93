"""Ranks of a trainer with one GPU each: they join over NCCL, agree, and take steps of one batch."""

from __future__ import annotations

import null_gpu
import pytest
from planned_memory import planned_gib

from polygen_stream.config import RunConfig, load_config, node_share

pytestmark = pytest.mark.rehearsal


def take_steps(name: str, options: dict[str, object], **device: object) -> list[dict]:
    """Start the ranks of a config, and check what each of them did; returns their figures."""
    config = load_config(name)
    batch, ranks = options.get("batch", config.train.batch), options["ranks"]
    words = [f"train.{key}={value}" for key, value in {**options, "device": "cuda"}.items()]
    figures = null_gpu.run_ranks("train", ranks, name, *words, **device)
    assert [rank["device"] for rank in figures] == [f"cuda:{rank}" for rank in range(ranks)]
    for rank in figures:
        assert rank["agreed"] == [7, "READY"]
        # The null GPU adds nothing up: a sum over the ranks comes back as one rank's own share.
        texts = batch // ranks
        assert (rank["texts"], rank["images"]) == (texts, texts * config.generators.positives)
        assert rank["step"]["pageable"] == 0 and rank["step"]["collectives"] > 0
        places = [place for place, _ in rank["step"]["waits"]]
        assert all(place.startswith("train/gathered_batch.py") for place in places), places
        assert sum(n for _, n in rank["step"]["waits"]) == 1
    return figures


def check_memory(what: str, figures: dict, config: RunConfig, record) -> None:
    """Compare with the plan."""
    allocated, reserved = planned_gib(config, "trainer")
    record(f"{what}, GiB allocated", f"{figures['peak']:.1f}", f"{allocated:.1f}")
    record(f"{what}, GiB reserved", f"{figures['reserved']:.1f}", f"{reserved:.1f}")
    assert figures["peak"] == pytest.approx(allocated, rel=0.15)
    assert figures["reserved"] == pytest.approx(reserved, rel=0.15)


# Every two of: number of ranks, micro-batches, image-image head.
@pytest.mark.parametrize(("ranks", "accum_freq", "head"), [(2, 1, 0), (2, 8, 512), (4, 1, 512), (4, 8, 0)])
def test_ranks_take_a_step_of_paper_together(ranks: int, accum_freq: int, head: int, record):
    batch = 1024 if accum_freq > 1 else 256
    options = {"ranks": ranks, "batch": batch, "accum_freq": accum_freq, "image_image_head": head}
    options |= {"image_image_weight": 0.5} if head else {}
    [first, *_] = take_steps("paper", options)
    what = f"paper, {ranks} ranks, {batch} texts, accum_freq {accum_freq}, head {head}: a rank"
    record(f"{what}, collectives in a step", first["step"]["collectives"])
    words = {f"train.{key}": str(value) for key, value in {**options, "device": "cuda"}.items()}
    check_memory(what, first, load_config("paper", words), record)


@pytest.mark.parametrize("capability", [80, 90])
def test_the_plan_has_the_memory_of_a_node_of_multi_node(capability: int, record):
    """Two nodes with a rank each, here on one machine."""
    [first, _] = take_steps("multi_node", {"ranks": 2}, capability=capability)
    nodes = {"launch.nodes": "2", "launch.rendezvous": "node-0:29500"}
    config = node_share(load_config("multi_node", nodes), 2)
    check_memory(f"multi_node, sm_{capability}: a rank of two nodes", first, config, record)
