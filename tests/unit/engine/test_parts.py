"""The stand-in for a module: every pipeline takes it, and asks it what it asked the module."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from polygen_stream.base.errors import UserError
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.record import recording
from polygen_stream.engine.runtime import EngineModule, install
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import load_recipe

CAPTIONS, SEEDS = ["a red car", "a blue ball on a beach"], [1, 2]


class Eager:
    """A session that computes with a torch module: exact, so any difference is the stand-in's fault."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.part = module, part_of(module)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert all(tensor.is_contiguous() for tensor in inputs.values())
        return self.part.call(self.module, inputs)


def generator(name: str) -> Generator:
    recipe = load_recipe(name)
    return load_generator(recipe.model_copy(update={"sampling": {**recipe.sampling, "num_inference_steps": 2}}))


@pytest.mark.parametrize("name", ["micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo"])
def test_a_pipeline_renders_the_same_with_every_part_replaced(name: str):
    plain, replaced = generator(name), generator(name)
    source = generator(name).pipeline
    parts = plain.recipe.engine.parts
    install(replaced, {part: Eager(getattr(source, part)) for part in parts})
    assert np.array_equal(plain.render(CAPTIONS, SEEDS), replaced.render(CAPTIONS, SEEDS))
    for part in parts:
        module = getattr(replaced.pipeline, part)
        assert isinstance(module, EngineModule)
        assert not list(module.parameters())  # the torch weights are gone


def test_recording_keeps_the_first_and_the_last_call_and_leaves_no_trace():
    plain = generator("micro/sd15")
    before = plain.render(CAPTIONS, SEEDS)
    with recording(plain.pipeline, ["unet", "vae", "text_encoder"]) as calls:
        assert np.array_equal(plain.render(CAPTIONS, SEEDS), before)
    assert [len(calls[part]) for part in ("unet", "vae", "text_encoder")] == [2, 1, 2]
    first, last = calls["unet"]
    assert first["sample"].shape == (4, 4, 8, 8)  # two captions, with and without guidance
    assert first["timestep"].shape == (4,)
    assert first["timestep"][0] > last["timestep"][0]
    plain.render(CAPTIONS[:1], SEEDS[:1])
    assert len(calls["unet"]) == 2 and len(calls["unet"][0]["sample"]) == 4


def test_what_an_engine_does_not_take_is_refused_by_name():
    unet = part_of(generator("micro/sd15").pipeline.unet)
    tensors = {"sample": torch.zeros(1, 4, 8, 8), "timestep": 1, "encoder_hidden_states": torch.zeros(1, 32, 96)}
    unet.inputs(**tensors, cross_attention_kwargs=None)
    with pytest.raises(UserError, match="takes no timestep_cond"):
        unet.inputs(**tensors, timestep_cond=torch.zeros(1))


def test_a_module_that_no_part_knows_is_refused_by_class():
    with pytest.raises(UserError, match=r"Linear cannot be compiled: .*UNet2DConditionModel"):
        part_of(torch.nn.Linear(1, 1))
