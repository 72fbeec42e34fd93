"""JSON documents: state files and results, one object per file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import write_atomically
from polygen_stream.base.records import Kinds, wrong_values
from polygen_stream.base.text_files import read_text


def read_json(path: Path, required: Collection[str] = (), kinds: Kinds | None = None) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is no such file.

    Args:
        path: The file.
        required: Keys that the object must have.
        kinds: What the values of some keys have to be, where they are there.

    Raises:
        UserError: The file cannot be read, is not JSON, lacks a required key, or has a value of another kind.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UserError(f"cannot read {path}: {problem.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(found, dict):
        raise _damaged(path, f"it holds a {type(found).__name__}, not an object")
    if missing := [key for key in required if key not in found]:
        raise _damaged(path, f"it has no {', '.join(missing)}")
    if wrong := wrong_values(found, kinds or {}):
        raise _damaged(path, f"its {wrong[0]} is a {type(found[wrong[0]]).__name__} that cannot be used")
    return found


def read_user_json(path: Path, what: str) -> Any:
    """Return what a JSON file holds that a user wrote or brought.

    Args:
        path: The file.
        what: What it is, for messages: "model config".

    Raises:
        UserError: The file cannot be read, is in another encoding (see `read_text`), or is not JSON.
    """
    return parse_user_json(read_text(path, what), f"the {what} {path}")


def parse_user_json(text: str, named: str) -> Any:
    """Return what a text holds that should be JSON.

    Args:
        text: The text.
        named: What and where it is, for messages.

    Raises:
        UserError: It is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as problem:  # also a number of more digits than Python converts
        raise UserError(f"{named} is not JSON: {problem}") from None
    except RecursionError:
        raise UserError(f"{named} is not JSON that can be read: it is nested too deeply") from None


def write_json(
    path: Path, content: Mapping[str, Any], *, indent: int = 2, allow_nan: bool = True, durable: bool = True
) -> None:
    """Write an object as a JSON file, atomically.

    Args:
        path: The file.
        content: The object.
        indent: Spaces per level.
        allow_nan: Write NaN and infinities, which JSON has no words for, as Python does; False: raise ValueError.
        durable: Return when the file would survive a power failure. A rename that gets to the disk before the content
            does would leave an empty file.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps(content, indent=indent, allow_nan=allow_nan)
    write_atomically(path, text + "\n", durable=durable)


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}): restore it, or delete it to go on without it")
