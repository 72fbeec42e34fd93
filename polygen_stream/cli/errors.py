"""Errors that a user can cause: one line on stderr and an exit code, with the traceback within reach.

The traceback of an error of the operating system is kept in a file that the line names. With POLYGEN_STREAM_TRACEBACK=1
in the environment every error prints its traceback in front of the line.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from contextlib import suppress

import typer

from polygen_stream.base.errors import PolygenError
from polygen_stream.base.secrets import redact
from polygen_stream.cli.arguments import long_options

BAD_INPUT = 2
UNREAD = 1  # as click has it for output whose reader has gone
OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # as a stream fails, which does not say what file it is
VARIABLE = "POLYGEN_STREAM_TRACEBACK"
LONGEST = 4000  # characters of a message

Explained = (typer.TyperException, PolygenError, OSError)


def explain(problem: typer.TyperException | PolygenError | OSError) -> int:
    """Print the line of an error on stderr.

    Args:
        problem: What a command raised.

    Returns:
        The exit code: 2 for bad input, else that of the error.

    Raises:
        OSError: The error names no file and is none of a stream, so a user cannot mend it by its line alone.
    """
    if isinstance(problem, BrokenPipeError):
        return UNREAD
    if isinstance(problem, OSError) and problem.filename is None and problem.errno not in OUTPUT:
        raise problem
    shown = os.environ.get(VARIABLE) == "1"
    if shown:
        print(redact("".join(traceback.format_exception(problem))), file=sys.stderr, end="")
    if isinstance(problem, PolygenError):
        return _fail(str(problem), problem.exit_code)
    if isinstance(problem, OSError):
        where = f": {problem.filename}" if problem.filename is not None else ""
        return _fail(f"{problem.strerror}{where}{'' if shown else f' ({_kept(problem)})'}", BAD_INPUT)
    return _usage(problem)


def _usage(problem: typer.TyperException) -> int:
    """Explain an unknown command, an unknown option, an option without its value and the like."""
    from polygen_stream.config.renamed import renamed_option

    message = problem.format_message()
    if not message:  # a group without a command: its help is on the screen
        return BAD_INPUT
    option, context = getattr(problem, "option_name", ""), getattr(problem, "ctx", None)
    if option and context and (new := renamed_option(option.removeprefix("--"), long_options(context))):
        message = f"option {option} has been renamed: write --{new}"
    return _fail(message, BAD_INPUT)


def _kept(problem: OSError) -> str:
    """Write the traceback to a file and return where it is."""
    text = "".join(traceback.format_exception(problem))
    try:
        descriptor, name = tempfile.mkstemp(prefix="polygen-stream-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8") as log:
            log.write(redact(f"{' '.join(sys.argv)}\n{text}"))
    except OSError:  # a full disk may be what the error is about
        return f"{VARIABLE}=1 prints the traceback"
    return f"traceback: {name}"


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # stderr is closed
        text = redact(message)  # which may quote a file that is one long line
        print(f"error: {text if len(text) <= LONGEST else f'{text[:LONGEST]}...'}", file=sys.stderr)
    return code
