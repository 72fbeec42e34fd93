"""Frozen weights that come and go: one block of main memory, which is copied to a GPU at once.

`module.to` copies tensor by tensor out of ordinary memory and waits for each, in both directions. Weights that are
never changed need no way back: their block stays in main memory, page-locked, and what is on the GPU is dropped.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 512  # bytes, that of torch's allocator on a GPU


@dataclass(frozen=True)
class _Place:
    """Where in the block a tensor lies.

    Args:
        start: first byte.
        nbytes: number of bytes.
        dtype: of the tensor.
        size: of the tensor.
        stride: of the tensor, which is dense: channels-last weights stay channels-last.
        tensors: the parameters and buffers that show it; tied weights are several.
    """

    start: int
    nbytes: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    tensors: list[Tensor]

    def within(self, block: Tensor) -> Tensor:
        return block[self.start : self.start + self.nbytes].view(self.dtype).as_strided(self.size, self.stride)


class FrozenWeights:
    """All parameters and buffers of some modules, in one block. They are moved there, and must not be changed.

    Args:
        modules: in main memory, for inference.
    """

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self._places = _places(modules)
        last = self._places[-1] if self._places else None
        self._block = torch.empty(last.start + last.nbytes if last else 0, dtype=torch.uint8)  # in main memory
        self._page_locked = False
        for place in self._places:  # one after the other: there is never more than one tensor twice
            place.within(self._block).copy_(place.tensors[0].detach())
            self._show(place, self._block)

    def to_device(self, device: torch.device | str) -> None:
        """Copy the weights to a device, without waiting for it, and let the modules have them there."""
        if torch.device(device).type == "cuda" and not self._page_locked and len(self._block):
            _lock_pages(self._block)
            self._page_locked = True
        block = torch.empty_like(self._block, device=device).copy_(self._block, non_blocking=True)
        for place in self._places:
            self._show(place, block)

    def to_host(self) -> None:
        """Let the modules have their weights in main memory again; those on the device are dropped."""
        for place in self._places:
            self._show(place, self._block)

    @staticmethod
    def _show(place: _Place, block: Tensor) -> None:
        for tensor in place.tensors:
            tensor.data = place.within(block)


def _places(modules: Iterable[torch.nn.Module]) -> list[_Place]:
    found: dict[tuple[object, ...], _Place] = {}
    end, seen = 0, set()
    for tensor in _tensors(modules):
        if id(tensor) in seen or not tensor.numel():
            continue
        seen.add(id(tensor))
        where = (tensor.data_ptr(), tensor.dtype, tensor.size(), tensor.stride())
        if where in found:
            found[where].tensors.append(tensor)
            continue
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + tensor.numel() * tensor.element_size()
        stride = torch.empty_like(tensor, device="meta").stride()  # the same where the tensor is dense
        found[where] = _Place(start, end - start, tensor.dtype, tensor.size(), stride, [tensor])
    return list(found.values())


def _tensors(modules: Iterable[torch.nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def _lock_pages(block: Tensor) -> None:
    """Page-lock memory where it is. torch's own pinned memory comes in powers of two: 16 GiB for weights of 8.5."""
    runtime: Any = torch.cuda.cudart()
    address = block.data_ptr()
    torch.cuda.check_error(int(runtime.cudaHostRegister(address, len(block), 0)))
    weakref.finalize(block, runtime.cudaHostUnregister, address).atexit = False
