"""What a process takes of a GPU beside what torch counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from polygen_stream.capacity.memory import CONTEXT_GIB

pytestmark = pytest.mark.gpu
# Loads the kernels of cuBLAS and cuDNN, and says what the allocator holds.
PROCESS = """
import torch
x = torch.randn(8, 8, 64, 64, device="cuda", dtype=torch.bfloat16)
torch.nn.Conv2d(8, 8, 3, device="cuda", dtype=torch.bfloat16)(x).flatten(1).matmul(torch.ones(30752, 8, device="cuda",
    dtype=torch.bfloat16)).sum().item()
print(torch.cuda.memory_reserved(), flush=True)
input()
"""


def free() -> int:
    torch.cuda.synchronize()
    return torch.cuda.mem_get_info()[0]


def test_a_context_takes_what_is_planned(stage):
    stage.computes()
    before = free()
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        reserved = int(process.stdout.readline())
        taken = (before - free() - reserved) / 2**30
        process.communicate("\n")
    stage.record("a CUDA context with cuBLAS and cuDNN, GiB", CONTEXT_GIB, taken)
    assert 0 < taken <= 1.15 * CONTEXT_GIB
