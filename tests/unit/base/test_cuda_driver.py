"""The driver that a CUDA build of torch needs, and a run that is refused because it is older."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace

import pytest
import torch

from polygen_stream.base import cuda_driver
from polygen_stream.base.cuda_driver import too_old, torch_cuda_version
from polygen_stream.base.errors import UserError
from polygen_stream.base.nvidia_smi import NoNvidiaSmi
from polygen_stream.config import load_config
from polygen_stream.launch import preflight
from polygen_stream.launch.process_plan import build_process_plan


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library is not on the path, whatever this machine has."""
    monkeypatch.setattr(cuda_driver, "_loadable_cuda", lambda: 0)


def test_the_build_is_what_torch_says_of_itself():
    assert torch_cuda_version() == torch.version.cuda


def test_a_build_for_cpus_and_no_torch_need_no_driver(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "version.py").write_text("__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\nhip = '6.1'\n")
    for spec in (None, SimpleNamespace(origin=str(tmp_path / "__init__.py"))):
        with monkeypatch.context() as changed:
            changed.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
            assert torch_cuda_version() is None


@pytest.mark.parametrize(
    ("driver", "cuda", "needed"),
    [
        ("570.86.15", "13.0", 580), ("580.65.06", "13.0", None), ("590.1", "13.1", None), ("535.104.05", "12.8", None),
        ("470.57.02", "12.1", 525), ("570.86.15", "99.0", None), ("[N/A]", "13.0", None),
    ],
)  # fmt: skip
def test_what_is_too_old_for_what(driver: str, cuda: str, needed: int | None):
    assert too_old(driver, cuda) == needed


def test_the_forward_compatibility_package_makes_up_for_an_old_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda_driver, "_loadable_cuda", lambda: 13)
    assert too_old("570.86.15", "13.0") is None


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch):
    """driver(version): nvidia-smi says so, and torch is built for CUDA 13.0. None: there is no nvidia-smi."""

    def say(version: str | None) -> None:
        def query(*fields: str) -> list[tuple[str, ...]]:
            assert fields == ("driver_version",)
            if version is None:
                raise NoNvidiaSmi("not here")
            return [(version,), (version,)]

        monkeypatch.setattr(preflight, "query_gpus", query)
        monkeypatch.setattr(preflight, "torch_cuda_version", lambda: "13.0")

    return say


def test_a_run_on_a_gpu_is_refused_with_both_numbers(driver):
    plan = build_process_plan(load_config(None, {"train.device": "cuda:0"}))
    driver("570.86.15")
    told = "the NVIDIA driver here is 570.86.15, but the installed torch is built for CUDA 13.0, which needs driver 580"
    with pytest.raises(UserError, match=re.escape(told)):
        preflight.check_driver(plan)
    for newer in ("580.65.06", None):
        driver(newer)
        preflight.check_driver(plan)


def test_a_run_on_cpus_asks_no_driver(driver):
    driver("470.57.02")
    preflight.check_driver(build_process_plan(load_config(None)))
