"""The TensorRT backend's calls, through the newest Python bindings of TensorRT: names, arguments and their types."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import null_gpu
import pytest

pytestmark = pytest.mark.rehearsal


def test_the_bindings_take_every_call_of_the_backend(record, tmp_path):
    found = importlib.util.find_spec("tensorrt_bindings")
    assert found, "make gpu-rehearsal installs TensorRT's bindings: pip install --no-deps tensorrt-cu13-bindings"
    null_gpu.tensorrt_libraries(Path(found.origin).with_name("tensorrt.so"))
    figures = null_gpu.run("tensorrt_calls", tmp_path)
    assert figures["timings"] and min(figures["timings"]) > 0, "the build kept no timing cache"
    assert figures["refitted"] > 0, "a plan with other weights was not written"
    assert figures["sessions"] == ["unet", "vae"] and figures["outputs"] == []
    assert figures["lacks"] == []
    record("TensorRT's bindings that take every call of the backend", figures["version"])
