"""The floating-point precision of a training step."""

from __future__ import annotations

import torch

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # names of torch.cpu.get_capabilities()


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast for `train.precision` on this device: torch.bfloat16, or None for float32.

    "auto" is bf16 where the device multiplies in it and fp32 elsewhere: a CPU without such instructions emulates bf16
    several times slower than it computes fp32.
    """
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.12
    return any(capabilities.get(name) for name in _CPU_BF16)


def prefer_plain_attention(device: torch.device) -> None:
    """Turn off torch's fused attention in this process if the device is a CPU.

    torch's fused attention for CPUs is made for long sequences: its backward pass takes a quarter of a step's time on
    captions of thirty tokens, more than plain matrix products.
    """
    if device.type == "cpu":
        torch.backends.cuda.enable_flash_sdp(False)  # also switches the CPU kernel
