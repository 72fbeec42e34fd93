"""Backends: what compiles an ONNX graph and runs the result. One file and one line of the registry each."""

from __future__ import annotations

from polygen_stream.base.errors import UserError
from polygen_stream.engine.backends.base import Backend
from polygen_stream.engine.backends.onnxruntime import OnnxRuntime
from polygen_stream.engine.backends.openvino import OpenVino
from polygen_stream.engine.backends.tensorrt import TENSORRT, TENSORRT_RTX, TensorRt

BACKENDS: dict[str, Backend] = {
    "onnxruntime": OnnxRuntime(),
    "openvino": OpenVino(bf16=False),
    "openvino-bf16": OpenVino(bf16=True),
    "tensorrt": TensorRt(TENSORRT),
    "tensorrt-rtx": TensorRt(TENSORRT_RTX),
}


def get_backend(name: str, target: str | None = None) -> Backend:
    """The backend of that name.

    Args:
        target: GPU architecture to build for, e.g. "SM89"; None is this machine.

    Raises:
        UserError: there is none, or it cannot build for that target.
    """
    if name not in BACKENDS:
        raise UserError(f"no engine backend {name!r}: choose one of {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    if target is None:
        return backend
    if not isinstance(backend, TensorRt):
        raise UserError(f"{name} builds for this machine's processor: leave --target {target} away")
    return backend.aimed_at(target)
