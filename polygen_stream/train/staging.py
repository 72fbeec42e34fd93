"""Staging: copying a batch from the ring and the host to the training device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from polygen_stream.ring import Ring

PINNED_BUFFERS = 3  # one being filled, one being copied, one being read by the step


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a small tensor from the host to a device, without waiting for what the device is doing.

    A GPU reads it out of pinned memory: a copy from ordinary memory makes the host wait until it has begun.
    """
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Staging(Protocol):
    """A way from the ring to the training device."""

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images to the device: uint8 [len(slots), H, W, 3]. The slots may be reused once this returns."""
        ...


class HostStaging:
    """Staging for a CPU: one gather out of shared memory."""

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images out of the ring: uint8 [len(slots), H, W, 3]."""
        return torch.from_numpy(ring.read(slots))


class CudaStaging:
    """Staging for a GPU: gathers into pinned buffers in rotation and copies each on a side stream, while a step runs.

    A buffer is filled again only after the copy out of it has ended (its event): a wait, if there is one, is
    for a copy that was issued PINNED_BUFFERS batches ago.

    Args:
        device: a CUDA device.
        max_images: images of the largest batch.
        image_shape: (H, W, 3).
    """

    def __init__(self, device: torch.device, max_images: int, image_shape: tuple[int, int, int]) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._buffers = [
            torch.empty(max_images, *image_shape, dtype=torch.uint8, pin_memory=True) for _ in range(PINNED_BUFFERS)
        ]
        self._copied = [torch.cuda.Event() for _ in range(PINNED_BUFFERS)]
        self._next = 0

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images to the GPU: uint8 [len(slots), H, W, 3]."""
        buffer, copied = self._buffers[self._next][: len(slots)], self._copied[self._next]
        self._next = (self._next + 1) % PINNED_BUFFERS
        copied.synchronize()
        ring.read(slots, out=buffer.numpy())
        with torch.cuda.stream(self._stream):
            images = buffer.to(self._device, non_blocking=True)
            copied.record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        # The caching allocator must not hand this memory out before the step that reads it is done.
        images.record_stream(current)
        return images


def build_staging(device: torch.device, max_images: int, image_shape: tuple[int, int, int]) -> Staging:
    """Build the staging of a device, for batches of up to `max_images` images of [H, W, 3]."""
    return CudaStaging(device, max_images, image_shape) if device.type == "cuda" else HostStaging()
