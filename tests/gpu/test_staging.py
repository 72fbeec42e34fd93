"""Pixels from the ring to a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_rings import open_plain, render

from polygen_stream.ring import Ring
from polygen_stream.train.staging import BUFFERS, CudaStaging, OnItsWay

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


def load(staging: CudaStaging, ring: Ring, slots: list[int]) -> tuple[torch.Tensor, OnItsWay]:
    with staging.batch() as staged:
        assert isinstance(staged, OnItsWay)
        return staging.load(ring, slots), staged


def test_batches_of_any_size_arrive_as_the_ring_has_them(full):
    staging = CudaStaging(torch.device("cuda:0"), 32, SHAPE)
    rng = np.random.default_rng(0)
    asked = [rng.permutation(32)[:size].tolist() for size in (32, 1, 17, 32, 5, 32, 2, 31)]
    assert len(asked) > 2 * BUFFERS
    ahead = load(staging, full, asked[0])
    for slots, following in zip(asked, [*asked[1:], [0]], strict=True):
        images, staged = ahead
        ahead = load(staging, full, following)  # as the trainer does while a step reads the images
        staged.wait()
        assert images.is_cuda and images.dtype == torch.uint8
        read = images.clone()
        staged.images_read()
        np.testing.assert_array_equal(read.cpu().numpy(), full.read(slots))


def test_a_batch_arrives_while_a_step_computes(full, stage):
    """The host has it staged, and it is on the GPU, before the step before has ended."""
    stage.computes()
    staging = CudaStaging(torch.device("cuda:0"), 32, SHAPE)
    load(staging, full, [0])
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # cycles: a second or so
    step = torch.cuda.Event()
    step.record()
    images, staged = load(staging, full, list(range(32)))
    staged.copied.synchronize()
    assert not step.query(), "the copy waited for the step"
    staged.wait()
    np.testing.assert_array_equal(images.cpu().numpy(), full.read(range(32)))
    assert step.query(), "the batch was read before the step's end"


def test_a_batch_overwrites_no_images_that_a_step_has_yet_to_read(full, stage):
    stage.computes()
    staging = CudaStaging(torch.device("cuda:0"), 32, SHAPE)
    first, staged = load(staging, full, list(range(16)))
    staged.wait()
    torch.cuda._sleep(2_000_000_000)  # a step that is slow to read its images
    read = first.clone()
    staged.images_read()
    for _ in range(BUFFERS):
        load(staging, full, list(range(16, 32)))
    np.testing.assert_array_equal(read.cpu().numpy(), full.read(range(16)))
