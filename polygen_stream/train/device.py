"""A device by the name that a user gave it, if this machine has it."""

from __future__ import annotations

import torch

from polygen_stream.base.errors import UserError


def training_device(name: str, local_rank: int = 0, key: str = "train.device") -> torch.device:
    """The device of `train.device`, or of what else is called `key`; "cuda" is that of the local rank.

    Raises:
        UserError: no such device on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{key} = {name!r} is not a device: use 'cpu' or 'cuda:0'") from None
    if device.type != "cuda":
        return device
    if device.index is None:
        device = torch.device("cuda", local_rank)
    if device.index >= torch.cuda.device_count():
        fewer = " or fewer train.ranks" if key == "train.device" else ""
        raise UserError(
            f"{key} = {name!r} is {device}, but this machine has {torch.cuda.device_count()} CUDA devices that torch "
            f"can use: set {key} = 'cpu'{fewer}, or see `polygen-stream doctor`"
        )
    return device
