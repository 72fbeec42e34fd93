"""Losses over real processes that hold unequal shares of a batch, and over micro-batches: those of the whole batch."""

from __future__ import annotations

import pytest
import torch
from gloo_work import (
    CASE,
    HEADS,
    INPUT,
    OPTIONS,
    RANKS,
    Towers,
    gradients,
    in_micro_batches,
    inputs,
    rank_part,
    whole_batch,
    work,
)
from torch.multiprocessing import spawn

from polygen_stream.train.grad_cache import CachedFeatures

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Every value, and every parameter's gradient as a vector, to a relative tolerance."""
    unused = {name for name, value in found.items() if name.startswith("d ") and not value.any()} - expected.keys()
    assert found.keys() - unused == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).norm() / value.norm()
        assert error < tolerance, (name, error, found[name], value)


def test_the_shares_of_the_ranks_are_as_unequal_as_they_are_meant_to_be():
    for world_size, rank_of_text in RANKS.items():
        parts = [rank_part(rank_of_text, rank) for rank in range(world_size)]
        assert sorted(r for _, images, _ in parts for r in images) == list(range(len(CASE.image_text)))
        sizes = {(len(images), len(texts)) for _, images, texts in parts}
        assert len(sizes) == world_size
    last = rank_part(RANKS[4], 3)[0]
    assert (last.positives, last.negatives, last.positive_images) == (1, 0, 1)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_of_unequal_size_give_the_loss_and_gradients_of_one_process(world_size, tmp_path):
    spawn(work, (world_size, str(tmp_path)), nprocs=world_size)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
    for dtype in TOLERANCE:
        for number, options in enumerate(OPTIONS):
            for head in HEADS:
                expected = whole_batch(dtype, head, options)
                for how in ("chunk 0", "chunk 3", "4 micro-batches"):
                    for found in ranks:
                        assert_same(found[dtype, number, head, how], expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("micro_batches", [2, 4, 5])
def test_micro_batches_give_the_loss_and_gradients_of_the_large_batch(dtype, options, micro_batches):
    for head in HEADS:
        model = Towers().to(dtype)
        loss, parts = in_micro_batches(model, *inputs(dtype), CASE.index, micro_batches, head, **options)
        found = {"loss": loss.detach(), **parts, **gradients(model)}
        assert_same(found, whole_batch(dtype, head, options), TOLERANCE[dtype])


def test_both_passes_over_a_piece_drop_the_same_units():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(INPUT, 64), torch.nn.Dropout(0.5))
    cache = CachedFeatures(encoder, torch.ones(6, INPUT), micro_batches=3)
    after = torch.get_rng_state()
    cache.features.square().sum().backward()
    cache.backward()
    # Of a unit's square f * f, d/db is 2 f * 2 where it was kept (for the kept are doubled) and 0 elsewhere.
    torch.testing.assert_close(encoder[0].bias.grad, 4 * cache.features.detach().sum(0))
    assert (cache.features == 0).float().mean() > 0.3
    assert torch.equal(torch.get_rng_state(), after)  # the second pass leaves no trace in the random numbers
