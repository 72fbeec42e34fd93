"""The device that a user named, if this machine has it."""

from __future__ import annotations

import torch

from polygen_stream.base.errors import UserError


def training_device(name: str, local_rank: int = 0, key: str = "train.device") -> torch.device:
    """Return the device of this name; "cuda" is the CUDA device of the local rank.

    Args:
        name: "cpu", "cuda" or "cuda:N".
        local_rank: number of this process on its node.
        key: where the name is from, for the message.

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
