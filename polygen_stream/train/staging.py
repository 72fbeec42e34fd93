"""Staging: copying a batch from the ring and the host to the training device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from polygen_stream.ring import Ring

# Of the host: one is filled while the other is copied. Of a GPU: one is filled while a step reads the other.
BUFFERS = 2


def copy_to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a small tensor from the host to a device, without waiting for what the device is doing.

    A GPU reads it out of pinned memory: a copy from ordinary memory makes the host wait until it has begun.
    """
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def most_texts(batch: int, ranks: int) -> int:
    """Return the most texts that a rank can have of a batch of `batch` texts, whatever the mix of its groups is.

    The ring's draw board gives a rank every `ranks`-th group, so at most ceil(plain / ranks) groups of one text and
    ceil(pair / ranks) of two, with plain + 2 pair = batch.
    """
    return (batch + 3 * (ranks - 1)) // ranks


class Staged(Protocol):
    """A batch on its way to the training device."""

    def wait(self, *tensors: Tensor) -> None:
        """Let the device's current stream, not the host, wait until the batch is there.

        Args:
            tensors: those of the batch that the stream is going to read, without the images.
        """
        ...

    def images_read(self) -> None:
        """Say that the current stream reads the images no more; until then they are not overwritten."""
        ...


class Staging(Protocol):
    """A way from the ring to the training device."""

    def batch(self) -> AbstractContextManager[Staged]:
        """Stage a batch: what is copied to the device in this context belongs to it."""
        ...

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images to the device: uint8 [len(slots), H, W, 3], once in a batch.

        The slots may be reused once this returns. The images are there until two further batches were loaded.
        """
        ...


class OnHost:
    """A batch that is where it is computed on."""

    def wait(self, *tensors: Tensor) -> None:
        """Return at once."""

    def images_read(self) -> None:
        """Do nothing: the images are no buffer."""


ON_HOST = OnHost()


class HostStaging:
    """Staging for a CPU: one gather out of shared memory."""

    @contextmanager
    def batch(self) -> Iterator[Staged]:
        """Stage a batch."""
        yield ON_HOST

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images out of the ring: uint8 [len(slots), H, W, 3]."""
        return torch.from_numpy(ring.read(slots))


class OnItsWay:
    """A batch that a side stream copies to a GPU.

    Args:
        device: the GPU.
        read: recorded when the step has read the images.
    """

    def __init__(self, device: torch.device, read: torch.cuda.Event) -> None:
        self._device, self._read = device, read
        self.copied = torch.cuda.Event()

    def wait(self, *tensors: Tensor) -> None:
        """Let the current stream wait until the batch is there."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self.copied)
        for tensor in tensors:  # were allocated on the side stream, which must not reuse their memory before the step
            tensor.record_stream(stream)

    def images_read(self) -> None:
        """Let the images be overwritten after what the current stream was given so far."""
        self._read.record(torch.cuda.current_stream(self._device))


class CudaStaging:
    """Staging for a GPU: gathers into pinned buffers in rotation and copies each on a side stream, while a step runs.

    A pinned buffer is filled again only after the copy out of it has ended (its event): a wait of the host, if there is
    one, is for a copy that was issued BUFFERS batches ago. On the GPU there are as many buffers; the side stream waits
    until the step before the last has read the one that is overwritten.

    Args:
        device: a CUDA device.
        max_images: images of the largest batch.
        image_shape: (H, W, 3).
    """

    def __init__(self, device: torch.device, max_images: int, image_shape: tuple[int, int, int]) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        shape = (max_images, *image_shape)
        self._pinned = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(BUFFERS)]
        self._images = [torch.empty(shape, dtype=torch.uint8, device=device) for _ in range(BUFFERS)]
        self._copied = [torch.cuda.Event() for _ in range(BUFFERS)]
        self._read = [torch.cuda.Event() for _ in range(BUFFERS)]
        self._next = 0

    @contextmanager
    def batch(self) -> Iterator[Staged]:
        """Stage a batch: what is copied in this context is copied on the side stream."""
        staged = OnItsWay(self._device, self._read[self._next])
        with torch.cuda.stream(self._stream):
            yield staged
            staged.copied.record(self._stream)
        self._next = (self._next + 1) % BUFFERS

    def load(self, ring: Ring, slots: Sequence[int]) -> Tensor:
        """Copy images to the GPU: uint8 [len(slots), H, W, 3]."""
        pinned, images = (buffers[self._next][: len(slots)] for buffers in (self._pinned, self._images))
        self._copied[self._next].synchronize()
        ring.read(slots, out=pinned.numpy())
        self._stream.wait_event(self._read[self._next])
        images.copy_(pinned, non_blocking=True)
        self._copied[self._next].record(self._stream)
        return images


def build_staging(device: torch.device, max_images: int, image_shape: tuple[int, int, int]) -> Staging:
    """Build the staging of a device, for batches of up to `max_images` images of [H, W, 3]."""
    return CudaStaging(device, max_images, image_shape) if device.type == "cuda" else HostStaging()
