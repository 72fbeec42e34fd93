"""xformers: when it is asked for, and that asking for it changed something."""

from __future__ import annotations

import importlib.util
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import XFormersAttnProcessor

from polygen_stream.base.errors import PolygenError
from polygen_stream.generators.attention import prefer_xformers
from polygen_stream.generators.pipelines import load_generator
from polygen_stream.generators.recipe import load_recipe


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if xformers were installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "xformers" else find(name))


def pipeline(name: str = "micro/sd15", device: str = "cuda") -> SimpleNamespace:
    """A pipeline that says it is on a device; none of its kernels run."""
    loaded = load_generator(load_recipe(name)).pipeline
    return SimpleNamespace(**loaded.components, device=torch.device(device))


def processors(module: torch.nn.Module) -> set[str]:
    return {type(processor).__name__ for processor in module.attn_processors.values()}


def test_a_unet_on_a_gpu_gets_xformers(installed, monkeypatch: pytest.MonkeyPatch):
    on_gpu = pipeline()
    # What diffusers' own switch does after it has tried a kernel, which a CPU does not have.
    switch = lambda: on_gpu.unet.set_attn_processor(XFormersAttnProcessor())  # noqa: E731
    monkeypatch.setattr(on_gpu.unet, "enable_xformers_memory_efficient_attention", switch)
    assert processors(on_gpu.unet) == {"AttnProcessor2_0"}
    assert prefer_xformers(on_gpu)
    assert processors(on_gpu.unet) == {"XFormersAttnProcessor"}


def test_a_switch_that_changes_nothing_is_an_error(installed, monkeypatch: pytest.MonkeyPatch):
    on_gpu = pipeline()
    monkeypatch.setattr(on_gpu.unet, "enable_xformers_memory_efficient_attention", lambda: None)
    with pytest.raises(PolygenError, match="diffusers left AttnProcessor2_0 in the UNet"):
        prefer_xformers(on_gpu)


def test_kernels_that_do_not_work_leave_torchs_attention_and_a_warning(
    installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    on_gpu = pipeline()

    def broken() -> None:
        raise NotImplementedError("no operator found")

    monkeypatch.setattr(on_gpu.unet, "enable_xformers_memory_efficient_attention", broken)
    with caplog.at_level(logging.WARNING):
        assert not prefer_xformers(on_gpu)
    assert "xformers does not work here, torch's own attention is used: no operator found" in caplog.text
    assert processors(on_gpu.unet) == {"AttnProcessor2_0"}


def test_sana_keeps_its_own_processors(installed):
    on_gpu = pipeline("micro/sana")
    before = processors(on_gpu.transformer)
    assert not prefer_xformers(on_gpu)
    assert processors(on_gpu.transformer) == before
    assert any("Sana" in name for name in before)


def test_on_a_cpu_torchs_attention_stays(installed):
    on_cpu = pipeline(device="cpu")
    assert not prefer_xformers(on_cpu)
    assert processors(on_cpu.unet) == {"AttnProcessor2_0"}


def test_without_xformers_torchs_attention_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    on_gpu = pipeline()
    assert not prefer_xformers(on_gpu)
    assert processors(on_gpu.unet) == {"AttnProcessor2_0"}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["micro/sd15", "micro/sd2", "micro/sdxl_turbo"])
def test_xformers_draws_what_torch_draws(name: str):
    pytest.importorskip("xformers")
    if torch.cuda.get_device_capability() > (9, 0):
        pytest.skip("xformers has kernels for float32, in which the micro models are, up to SM90")
    recipe = load_recipe(name)
    plain, fast = load_generator(recipe, "cuda"), load_generator(recipe, "cuda")
    assert prefer_xformers(fast.pipeline)
    assert processors(fast.pipeline.unet) == {"XFormersAttnProcessor"}
    pictures = [each.render(["a red car", "a dog"], [1, 2]).astype(int) for each in (plain, fast)]
    assert np.abs(pictures[0] - pictures[1]).mean() <= 2.0
