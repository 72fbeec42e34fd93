"""The NVIDIA GPU of this machine, as far as it decides which engines it can run."""

from __future__ import annotations

from dataclasses import dataclass

from polygen_stream.base.errors import UserError
from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus


@dataclass(frozen=True)
class LocalGpu:
    """A CUDA device: name, architecture ("SM80"), driver version."""

    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} {self.capability} driver {self.driver}"


def gpu() -> LocalGpu:
    """This machine's current CUDA device.

    Raises:
        UserError: there is none, or nvidia-smi is not there.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("no NVIDIA GPU here: build on the GPU node, or with --backend tensorrt-rtx --target SM89")
    try:
        [(driver,), *_] = query_gpus("driver_version")
    except NoNvidiaSmi as problem:
        raise UserError(
            f"nvidia-smi has to tell the driver's version, but {problem}: in a container ask for the driver's "
            "utilities (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        ) from None
    major, minor = torch.cuda.get_device_capability()
    return LocalGpu(torch.cuda.get_device_name(), f"SM{major}{minor}", driver)
