"""Backends: what compiles an ONNX graph and runs the result. One file and one line of the registry each."""

from __future__ import annotations

from polygen_stream.engine.backends.base import Backend
from polygen_stream.engine.backends.onnxruntime import OnnxRuntime
from polygen_stream.errors import UserError

BACKENDS: dict[str, Backend] = {
    "onnxruntime": OnnxRuntime(),
}


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in BACKENDS:
        raise UserError(f"no engine backend {name!r}: choose one of {', '.join(BACKENDS)}")
    return BACKENDS[name]
