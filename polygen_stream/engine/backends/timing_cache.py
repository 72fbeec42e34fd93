"""TensorRT's timing cache: what builds have measured of kernels, kept for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from polygen_stream.base.files import write_atomically


@contextmanager
def timing_cache(config: Any, path: Path) -> Iterator[None]:
    """Let the build in the block start from a file of measurements, and add its own to the file afterwards.

    Builds of several generators may run at once: each adds what it measured to what the others have written by then.
    A file that the library does not accept (damaged, of another GPU) counts as empty.

    Args:
        config: TensorRT's IBuilderConfig.
        path: The file of measurements; need not exist.
    """
    config.set_timing_cache(_read(config, path), ignore_mismatch=False)
    yield
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        measured = config.get_timing_cache()
        measured.combine(_read(config, path), ignore_mismatch=False)
        write_atomically(path, bytes(measured.serialize()))


def _read(config: Any, path: Path) -> Any:
    content = path.read_bytes() if path.is_file() else b""
    return config.create_timing_cache(content) or config.create_timing_cache(b"")
