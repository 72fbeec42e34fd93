"""Text files that a user wrote: UTF-8 with or without a byte order mark, UTF-16 with one; anything else is refused."""

from __future__ import annotations

import codecs
from pathlib import Path

from polygen_stream.base.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = codecs.BOM_UTF32_LE  # begins as UTF-16's does; UTF-32 in the other order is no UTF-8 and no UTF-16


def read_text(path: Path, what: str) -> str:
    r"""Return the text of a file, without its byte order mark and with "\n" at the end of every line.

    Args:
        path: The file.
        what: What it is, for messages: "list of captions".

    Raises:
        UserError: The file cannot be read, or is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no {what} {path}") from None
    except OSError as problem:
        raise UserError(f"cannot read the {what} {path}: {problem.strerror}") from None
    except ValueError:  # a NUL in its name
        raise UserError(f"cannot read the {what} {str(path)!r}: no file can be called that") from None
    return decode_text(content, f"the {what} {path}")


def decode_text(content: bytes, named: str) -> str:
    """Return the text that a file's content is, as `read_text` does; `named` is what to call it in messages.

    Raises:
        UserError: It is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    return _decode(content, named).lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _decode(content: bytes, named: str) -> str:
    wide = content.startswith(_UTF16) and not content.startswith(_UTF32)
    encoding, called = ("utf-16", "UTF-16, as its byte order mark says") if wide else ("utf-8", "UTF-8")
    try:
        text = content.decode(encoding)
        where = text.find("\0")
        if where < 0:
            return text
        before, found = text[:where], "a NUL, which no text has"
    except UnicodeDecodeError as problem:
        before = content[: problem.start].decode(encoding, errors="replace")
        found = f"0x{content[problem.start]:02x}"
    line = before.replace("\r\n", "\n").replace("\r", "\n").rpartition("\n")
    number = 1 + line[0].count("\n") + len(line[1])
    byte = 1 + len(line[2].lstrip("\ufeff").encode("utf-16-le" if wide else "utf-8"))
    raise UserError(f"{named} is not {called}: line {number}, byte {byte} is {found}; save it in the encoding UTF-8")
