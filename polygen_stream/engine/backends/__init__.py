"""Backends: what compiles an ONNX graph and runs the result. One file and one line of the registry each."""

from __future__ import annotations

from functools import cache

from polygen_stream.base.errors import UserError
from polygen_stream.engine.backends.base import Backend, CrossBuilder
from polygen_stream.registry import ENGINE_BACKENDS


def get_backend(name: str, target: str | None = None) -> Backend:
    """Return the backend that generators.backend names.

    Args:
        name: A name of the registry, or the "module:attribute" of a backend of the user's own.
        target: GPU architecture to build for, e.g. "SM89"; None is this machine.

    Raises:
        UserError: There is none, it cannot be imported, or it cannot build for that target.
    """
    backend = _backend(name)
    if target is None:
        return backend
    if not isinstance(backend, CrossBuilder):
        raise UserError(f"{name} builds for this machine's processor: leave --target {target} away")
    return backend.aimed_at(target)


@cache
def _backend(name: str) -> Backend:
    return ENGINE_BACKENDS.load(name)()
