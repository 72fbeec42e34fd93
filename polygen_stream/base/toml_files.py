"""TOML files that a user wrote: configs, recipes, experiments."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text

MAX_CHARACTERS = 2**18  # the largest of ours has 30 thousand, and a parsed one takes a hundred times its size
MAX_PARTS = 64  # of a key a.b.c: tomllib takes memory and time that grow with their square
SHOWN = 300  # of a parser's message, which may quote a whole line
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MAX_PARTS}}}", re.ASCII)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        path: The file.
        what: What it is, for messages: "config".

    Raises:
        UserError: The file cannot be read, is in another encoding (see `read_text`), or is not valid TOML.
    """
    text = read_text(path, what)
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"{path} has {len(text)} characters, and a {what} at most {MAX_CHARACTERS}: is it the file you meant?"
        )
    if _LONG_KEY.search(text):
        raise UserError(f"{path} is not valid TOML: a key has more than {MAX_PARTS} parts")
    try:
        return tomllib.loads(text)
    except ValueError as problem:  # also a number of more digits than Python converts
        why = str(problem)
        raise UserError(f"{path} is not valid TOML: {why if len(why) <= SHOWN else f'{why[:SHOWN]}...'}") from None
    except RecursionError:
        raise UserError(f"{path} is not valid TOML: its lists or tables are nested too deeply") from None
