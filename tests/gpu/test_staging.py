"""Pixels from the ring to a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_rings import open_plain, render

from polygen_stream.train.staging import PINNED_BUFFERS, CudaStaging

pytestmark = pytest.mark.gpu
SHAPE = (64, 64, 3)


@pytest.fixture
def full(new_ring):
    """A ring of 32 pictures, all there."""
    ring = new_ring(image_shape=SHAPE)
    for task in range(16):
        open_plain(ring, task)
    assert render(ring) == 32
    return ring


def test_batches_of_any_size_arrive_as_the_ring_has_them(full):
    staging = CudaStaging(torch.device("cuda:0"), 32, SHAPE)
    rng = np.random.default_rng(0)
    asked = [rng.permutation(32)[:size].tolist() for size in (32, 1, 17, 32, 5, 32, 2, 31)]
    loaded = [staging.load(full, slots) for slots in asked]  # more of them than there are buffers
    assert len(asked) > 2 * PINNED_BUFFERS
    for slots, images in zip(asked, loaded, strict=True):
        assert images.is_cuda and images.dtype == torch.uint8
        np.testing.assert_array_equal(images.cpu().numpy(), full.read(slots))


def test_a_batch_is_on_its_way_while_a_step_computes(full, stage):
    """The host has it staged, and may give its slots back, before the step before has ended."""
    stage.computes()
    staging = CudaStaging(torch.device("cuda:0"), 32, SHAPE)
    staging.load(full, [0])
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # cycles: a second or so
    step = torch.cuda.Event()
    step.record()
    images = staging.load(full, list(range(32)))
    assert not step.query(), "loading waited for the step"
    np.testing.assert_array_equal(images.cpu().numpy(), full.read(range(32)))
    assert step.query(), "the batch was read before the step's end"
