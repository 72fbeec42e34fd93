"""The environment that vLLM finds: what it must not need of a machine. vLLM itself is not loaded."""

from __future__ import annotations

import os
import sys

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.captions.sources import language_models
from polygen_stream.config import CaptionsConfig


def environment_at_import(monkeypatch: pytest.MonkeyPatch, **own: str) -> dict[str, str]:
    """What is set when vLLM would be imported, the user's own variables included."""
    for variable in [name for name in os.environ if name.startswith(("VLLM_", "SPT_"))]:
        monkeypatch.delenv(variable)
    with monkeypatch.context() as changed:
        for variable, value in own.items():
            changed.setenv(variable, value)
        changed.setattr(os, "environ", os.environ.copy())
        changed.setitem(sys.modules, "vllm", None)  # an import of it fails
        with pytest.raises(UserError, match="needs vLLM"):
            language_models(CaptionsConfig(source="vllm"))
        return dict(os.environ)


def test_vllm_compiles_no_sampler_which_would_need_a_cuda_toolkit(monkeypatch: pytest.MonkeyPatch):
    assert environment_at_import(monkeypatch)["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_a_variable_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch):
    assert environment_at_import(monkeypatch, VLLM_LOGGING_LEVEL="DEBUG")["VLLM_LOGGING_LEVEL"] == "DEBUG"
