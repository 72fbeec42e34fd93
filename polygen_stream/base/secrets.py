"""Secrets: read from the environment in a form that can be sent, and kept out of messages, logs and files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TextIO

from polygen_stream.base.errors import UserError

HIDDEN = "[hidden]"
_NAME = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)", re.IGNORECASE)
_SHORTEST = 8  # a shorter value, such as "none", is no secret and stands in many texts
# user:password@ of a URL, query parameters that carry a secret, and what an HTTP client prints of an Authorization.
_IN_TEXT = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"<>]*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (
        re.compile(r"([?&](?:api[-_]?key|key|token|access[-_]?token|sig|signature|password|secret)=)[^&\s'\"]+", re.I),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(Bearer\s+|Authorization\W{1,6}(?:Basic\s+)?)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{HIDDEN}"),
)


def secret(name: str) -> str | None:
    """Return the secret in a variable of the environment, without blanks and line breaks around it.

    Args:
        name: The variable, e.g. "OPENAI_API_KEY".

    Returns:
        The secret; None if there is none.

    Raises:
        UserError: It has characters that no HTTP header can hold. The message does not show it.
    """
    value = os.environ.get(name, "").strip()
    for place, character in enumerate(value, 1):
        if not "!" <= character <= "~":
            raise UserError(
                f"{name}: character {place} of {len(value)} is U+{ord(character):04X}, which no key has: set it to the "
                "key alone, on one line"
            )
    return value or None


def redact(text: str) -> str:
    """Return a text without secrets: those of the environment, and the credentials in its URLs and headers."""
    for value in _secrets():
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def has_credentials(url: str) -> bool:
    """Whether a URL has a user, a password or a key in it."""
    return redact(url) != url


class RedactedStream:
    """A text stream in front of another one that lets no secret through. Everything but writing is the other's.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets, and return the length of the text."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _secrets() -> list[str]:
    """Return what must not be shown, longest first: a value, its lines, and how Python would spell it in a message."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _NAME.fullmatch(name):
            for part in (value, *value.split()):
                found |= {part, part.strip(), repr(part)[1:-1]}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
