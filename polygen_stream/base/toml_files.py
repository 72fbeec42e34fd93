"""TOML files that a user wrote: configs, recipes, experiments."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.text_files import read_text


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        path: The file.
        what: What it is, for messages: "config".

    Raises:
        UserError: The file cannot be read, is in another encoding (see `read_text`), or is not valid TOML.
    """
    text = read_text(path, what)
    try:
        return tomllib.loads(text)
    except ValueError as problem:  # also a number of more digits than Python converts
        raise UserError(f"{path} is not valid TOML: {problem}") from None
    except RecursionError:
        raise UserError(f"{path} is not valid TOML: its lists or tables are nested too deeply") from None
