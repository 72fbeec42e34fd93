"""Gradients of several ranks, averaged in buckets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from polygen_stream.train.parallel import BUCKET_BYTES, average_gradients

LAYERS = 30


def model() -> torch.nn.Module:
    """Many small parameters, one larger than a bucket, channels-last and double ones, and one without a gradient."""
    layers = [torch.nn.Linear(5, 7) for _ in range(LAYERS)]
    large = torch.nn.Embedding(BUCKET_BYTES // 4 // 64 + 1, 64)
    conv = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    return torch.nn.ModuleList([*layers, large, conv, torch.nn.Linear(3, 3).double(), torch.nn.Linear(2, 2)])


def put_gradients(module: torch.nn.Module, rank: int) -> None:
    """Whole numbers, whose sums and halves are exact in any order."""
    generator = torch.Generator().manual_seed(rank)
    for name, parameter in module.named_parameters():
        if not name.startswith(f"{LAYERS + 3}."):
            values = torch.randint(-64, 64, parameter.shape, generator=generator).to(parameter)
            parameter.grad = torch.empty_like(parameter).copy_(values)


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    module = model()
    put_gradients(module, rank)
    before = {name: parameter.grad for name, parameter in module.named_parameters()}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        average_gradients(module, dist.group.WORLD)
    sent = [event for event in profile.events() if event.name == "gloo:all_reduce"]
    after = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert all(after[name] is before[name] for name in after), "a gradient is another tensor than before"
    torch.save({"gradients": after, "sent": len(sent)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 4])
def test_every_rank_has_the_mean_of_all_gradients_after_a_few_collectives(world_size: int, tmp_path: Path):
    spawn(work, (world_size, str(tmp_path)), nprocs=world_size)
    sums: dict[str, torch.Tensor] = {}
    for rank in range(world_size):
        module = model()
        put_gradients(module, rank)
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                sums[name] = sums.get(name, 0) + parameter.grad
    for rank in range(world_size):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert {name for name, gradient in found["gradients"].items() if gradient is not None} == sums.keys()
        for name, total in sums.items():
            assert torch.equal(found["gradients"][name], total / world_size), name
        assert 2 <= found["sent"] <= 5 < len(sums)
