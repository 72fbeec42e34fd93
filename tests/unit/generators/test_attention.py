"""xformers: when it is asked for, and that asking for it changed something."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
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


def kernel_problem(device: str = "cuda") -> str | None:
    """Why xformers computes no attention on a device, by trying; None if it does."""
    try:
        import xformers.ops

        one = torch.randn(1, 8, 2, 16, device=device)
        xformers.ops.memory_efficient_attention(one, one, one).sum().item()
    except Exception as problem:  # whatever a library built for another torch raises, at its import or at a call
        return f"xformers computes nothing here: {type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
    return None


def test_an_xformers_that_does_not_load_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As its wheel for CUDA 12 is beside a torch for CUDA 13."""
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").write_text("")
    (tmp_path / "xformers" / "ops.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "xformers"]:
        monkeypatch.delitem(sys.modules, name)
    told = kernel_problem("cpu")
    assert told == "xformers computes nothing here: ImportError: libcudart.so.12: cannot open shared object file"


def test_one_whose_kernels_do_not_run_is_too_and_one_that_computes_is_none(monkeypatch: pytest.MonkeyPatch):
    def no_operator(*_: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("No operator found for `memory_efficient_attention_forward`\nwith inputs ...")

    for attention, told in (
        (no_operator, "NotImplementedError: No operator found for `memory_efficient_attention_forward`"),
        (lambda q, k, v: q, None),
    ):
        ops = SimpleNamespace(memory_efficient_attention=attention)
        monkeypatch.setitem(sys.modules, "xformers", SimpleNamespace(ops=ops))
        monkeypatch.setitem(sys.modules, "xformers.ops", ops)
        assert kernel_problem("cpu") == (told and f"xformers computes nothing here: {told}")


def test_make_gpu_test_installs_no_xformers():
    """Its newest wheel wants libcudart 12, and torch for CUDA 13 brings 13."""
    makefile = (Path(__file__).parents[3] / "Makefile").read_text(encoding="utf-8")
    target = makefile.partition("\ngpu-test:")[2].partition("\n\n")[0]
    assert "pip install" in target and "xformers" not in target


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["micro/sd15", "micro/sd2", "micro/sdxl_turbo"])
def test_xformers_draws_what_torch_draws(name: str):
    if problem := kernel_problem():
        pytest.skip(problem)
    if torch.cuda.get_device_capability() > (9, 0):
        pytest.skip("xformers has kernels for float32, in which the micro models are, up to SM90")
    recipe = load_recipe(name)
    plain, fast = load_generator(recipe, "cuda"), load_generator(recipe, "cuda")
    assert prefer_xformers(fast.pipeline)
    assert processors(fast.pipeline.unet) == {"XFormersAttnProcessor"}
    pictures = [each.render(["a red car", "a dog"], [1, 2]).astype(int) for each in (plain, fast)]
    assert np.abs(pictures[0] - pictures[1]).mean() <= 2.0
