"""Output that nothing depends on: a run goes on when its output is closed or full.

The reader of a pipe may have ended or stand still, the terminal may be closed or stopped (Ctrl-S), the disk of a log be
full. What cannot be written at once is dropped.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

PATIENCE_S = 0.5  # for a reader that is slow; none for one that has been stuck since the write before
PIECE = select.PIPE_BUF  # bytes that a pipe which is ready takes without making the writer wait


class LenientStream:
    """A text stream whose writes neither fail nor wait for a reader; all else is the stream's below."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stuck = False

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            data = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
            descriptor = self._stream.fileno()
            while data and self._ready(descriptor):
                data = data[os.write(descriptor, data[:PIECE]) :]
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is kept."""

    def _ready(self, descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        # A reader that is gone counts as ready, too: the write then says so.
        self._stuck = not poll.poll(0 if self._stuck else PATIENCE_S * 1000)
        return not self._stuck

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lenient_output() -> Iterator[None]:
    """Let no print to standard output or error fail or wait within the block."""
    _open_standard_streams()
    before = sys.stdout, sys.stderr
    for stream in before:
        discard_unwritable(stream)
    sys.stdout, sys.stderr = (_lenient(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_standard_streams() -> None:
    """Open what is closed of standard input, output and error (`>&-`), or another file would get its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def discard_unwritable(stream: TextIO | None) -> OSError | None:
    """Write out what a stream still holds, or else drop it for good, so that the interpreter's end cannot fail on it.

    Returns:
        Why it could not be written.
    """
    if stream is None:
        return None
    try:
        stream.flush()
    except ValueError:  # it is closed
        return None
    except OSError as problem:
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
            stream.flush()
        return problem
    return None


def _lenient(stream: Any) -> Any:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):  # none at all, or in memory
        return stream
    return LenientStream(stream)
