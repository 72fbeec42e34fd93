"""Files of concept banks in MetaCLIP's format, a JSON list of strings.

MetaCLIP's own bank (500,000 entries, CC-BY-NC 4.0) is not shipped; it is loaded from a path or URL of the user.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import parse_user_json
from polygen_stream.base.proxies import open_url, through
from polygen_stream.base.secrets import redact
from polygen_stream.base.text_files import decode_text, read_text
from polygen_stream.micro import world

MICRO = "micro"
TIMEOUT_S = 60.0


def load_bank(source: str) -> tuple[str, ...]:
    """Load the entries of a bank, in their order and without repetitions.

    Args:
        source: "micro" for the things of the micro world, a path, or an http(s) URL.

    Raises:
        UserError: the bank cannot be read, or is not a non-empty JSON list of non-blank strings in UTF-8.
    """
    if source == MICRO:
        return world.THINGS
    data = _fetch(source) if source.startswith(("http://", "https://")) else _read(source)
    named = f"bank {redact(source)}"
    return _checked(parse_user_json(decode_text(data, named), f"{named} (a JSON list of strings)"), redact(source))


def save_bank(entries: Sequence[str], path: Path) -> None:
    """Write a bank that `load_bank` reads.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(list(entries), ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {path}: {problem.strerror}; choose another --out") from None


def read_lines(path: Path, what: str) -> list[str]:
    """Return the non-blank lines of a text file, without surrounding blanks.

    Args:
        path: the file.
        what: what the file holds, for error messages, e.g. "blocklist".

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    return [line.strip() for line in read_text(path, what).splitlines() if line.strip()]


def _checked(entries: object, source: str) -> tuple[str, ...]:
    wanted = "a bank is a JSON list of strings"
    if not isinstance(entries, list):
        raise UserError(f"bank {source} holds a JSON {_kind(entries)}: {wanted}")
    if not entries:
        raise UserError(f"bank {source} is an empty list: {wanted}, at least one")
    for place, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise UserError(f"bank {source}: entry {place} is a JSON {_kind(entry)}: {wanted}")
        if not entry.strip():
            raise UserError(f"bank {source}: entry {place} is blank: remove it")
        if not _is_text(entry):
            raise UserError(f"bank {source}: entry {place} has a lone surrogate (half a character): remove it")
    return tuple(dict.fromkeys(entries))


def _is_text(entry: str) -> bool:
    try:
        entry.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell such strings, UTF-8 cannot
        return False
    return True


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _read(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        reason = getattr(problem, "strerror", None) or problem
        raise UserError(f"cannot read bank {source}: {reason}; give a path, an http(s) URL or {MICRO!r}") from None


def _fetch(url: str) -> bytes:
    try:
        with open_url(url, TIMEOUT_S) as response:
            return response.read()
    except UserError:
        raise
    except urllib.error.HTTPError as problem:
        raise UserError(
            f"cannot fetch bank {redact(url)}: HTTP {problem.code} {redact(problem.reason)}; check the address"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as problem:
        reason = redact(str(getattr(problem, "reason", problem)))
        raise UserError(
            f"cannot fetch bank {redact(url)}{through(url)}: {reason}; check the address and the network, or download "
            "it and give its path"
        ) from None
