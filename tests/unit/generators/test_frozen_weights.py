"""Weights in one block: the same to the modules that have them, wherever the block is."""

from __future__ import annotations

import pytest
import torch

from polygen_stream.generators.frozen_weights import FrozenWeights
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe


class Parts(torch.nn.Module):
    """Tied, channels-last, transposed, expanded, empty and integer tensors of several types."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(11, 6)
        self.head = torch.nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.conv = torch.nn.Conv2d(3, 5, 3).half().to(memory_format=torch.channels_last)
        self.wide = torch.nn.Parameter(torch.randn(7, dtype=torch.float64))
        self.register_buffer("transposed", torch.randn(4, 9).t())
        self.register_buffer("expanded", torch.randn(1, 3).expand(5, 3))
        self.register_buffer("positions", torch.arange(13), persistent=False)
        self.register_buffer("none", torch.empty(0))


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}


def blocks(module: torch.nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors(module).values() if tensor.numel()}


def test_all_tensors_keep_their_values_in_one_block():
    parts = Parts()
    before = {name: tensor.clone() for name, tensor in tensors(parts).items()}
    weights = FrozenWeights([parts])
    [home] = blocks(parts)
    for move in (lambda: None, lambda: weights.to_device("cpu"), weights.to_host, lambda: weights.to_device("cpu")):
        move()
        assert len(blocks(parts)) == 1
        for name, tensor in tensors(parts).items():
            assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name]), name
            assert tensor.data_ptr() % 16 == 0
        assert parts.head.weight is parts.embedding.weight
        assert parts.conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert isinstance(parts.wide, torch.nn.Parameter)
    assert blocks(parts) != {home}
    weights.to_host()
    assert blocks(parts) == {home}


def test_tensors_of_one_memory_that_are_different_parameters_stay_one():
    shared = torch.randn(3, 3)
    one, two = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    one.weight.data, two.weight.data = shared, shared
    weights = FrozenWeights([one, two])
    weights.to_device("cpu")
    assert one.weight is not two.weight and one.weight.data_ptr() == two.weight.data_ptr()


def test_the_weights_that_were_there_are_gone():
    """Main memory has them once."""
    linear = torch.nn.Linear(8, 8)
    old = linear.weight.data_ptr()
    weights = FrozenWeights([linear])
    assert linear.weight.data_ptr() != old
    weights.to_device("cpu")
    away = linear.weight.untyped_storage()
    weights.to_host()
    assert linear.weight.untyped_storage().data_ptr() != away.data_ptr()


def test_modules_without_weights_have_a_block_of_nothing():
    weights = FrozenWeights([torch.nn.Identity()])
    weights.to_device("cpu")
    weights.to_host()


@pytest.mark.parametrize("name", ["micro/sd15", "micro/sana"])
def test_a_generator_draws_the_same_from_its_block(name: str):
    generator = load_generator(load_recipe(name))
    expected = generator.render(["a red ball"], [3])
    weights = generator.frozen_weights()
    weights.to_device("cpu")
    assert (generator.render(["a red ball"], [3]) == expected).all()
    weights.to_host()
    assert (generator.render(["a red ball"], [3]) == expected).all()
