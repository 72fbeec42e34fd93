"""The GPUs that a run is planned for: as given ("8xH100-80G"), or those of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus

GIB = 2**30
# Memory of a card whose name does not say it, GiB.
USUAL_GIB = {"A100": 80, "H100": 80, "H200": 141, "L40S": 48, "L4": 24, "A10": 24, "RTX4090": 24, "RTX3090": 24}
ASKED = re.compile(r"(?:(\d+)x)?([A-Za-z][A-Za-z0-9 ]*?)(?:-(\d+)G[Bi]*)?")


@dataclass(frozen=True)
class GpuSpec:
    """One GPU.

    Attributes:
        index: N of "cuda:N".
        name: Name that distinguishes types of GPU.
        nbytes: Memory in bytes.
        capability: Architecture of a GPU of this machine, e.g. "SM89"; else empty.
        visible_as: Name of a GPU of this machine in CUDA_VISIBLE_DEVICES; else empty.
    """

    index: int
    name: str
    nbytes: int
    capability: str = ""
    visible_as: str = ""


def parse_gpus(text: str) -> list[GpuSpec]:
    """Parse GPUs in words: "8xH100-80G", "A100-40G", "4xA100-80G,4xH100-80G"; a bare number means A100-80G.

    Raises:
        UserError: The text has another form, or names a GPU whose memory is neither known nor given.
    """
    found: list[GpuSpec] = []
    for word in text.split(","):
        word = f"{word}xA100-80G" if word.strip().isdigit() else word.strip()
        match = ASKED.fullmatch(word)
        if match is None or match[1] == "0" or len(match[1] or "") > 5:
            raise UserError(f"--gpus {text}: write COUNTxNAME-MEMORY, e.g. 8xH100-80G or 4xA100-80G,4xH100-80G")
        gib = int(match[3]) if match[3] else USUAL_GIB.get(match[2])
        if gib is None:
            raise UserError(
                f"--gpus {text}: how much memory a {match[2]} has is not known here: write it, as in 8xH100-80G"
            )
        found += [GpuSpec(len(found) + i, f"{match[2]}-{gib}G", gib * GIB) for i in range(int(match[1] or 1))]
    return found


def local_gpus() -> list[GpuSpec]:
    """Return the GPUs of this machine that CUDA_VISIBLE_DEVICES shows, in its order, else in that of the PCI bus."""
    try:
        installed = query_gpus("name", "memory.total", "compute_cap")
    except NoNvidiaSmi:
        return []
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # CUDA shows none then
        return []
    mask = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    # GPUs can also be named by identifiers, which say nothing of their place in the list.
    numbered = all(word.isdigit() and int(word) < len(installed) for word in mask)
    shown = mask if numbered else map(str, range(len(installed)))
    found = []
    for index, place in enumerate(shown):
        name, memory, capability = installed[int(place)]
        nbytes = int(memory) * 2**20 if memory.isdigit() else _memory_by_torch(index)
        found.append(GpuSpec(index, name, nbytes, f"SM{capability.replace('.', '')}", place))
    return found


def _memory_by_torch(index: int) -> int:
    """Return the memory of a GPU for which nvidia-smi has none: one with unified memory, or a MIG instance.

    0 where this torch sees no such GPU: it was built without CUDA, or the driver does not answer it.
    """
    import torch

    try:
        return torch.cuda.get_device_properties(index).total_memory
    except (AssertionError, RuntimeError):
        return 0


def index_of(device: str) -> int | None:
    """Return N of "cuda:N", 0 of "cuda" and None of any other device."""
    kind, _, index = device.partition(":")
    return int(index or 0) if kind == "cuda" else None


def types_of(gpus: Sequence[GpuSpec]) -> dict[str, list[int]]:
    """Return the indices of the GPUs of each type, by name."""
    types: dict[str, list[int]] = {}
    for gpu in gpus:
        types.setdefault(gpu.name, []).append(gpu.index)
    return types
