"""Strategies for files that are damaged, or were never what they are taken for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from polygen_stream.base.errors import UserError

EXAMPLES = settings(
    max_examples=150, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


# What stands in for a value, or between others.
PIECES = (
    b"", b"0", b"-1", b"1e999", b"nan", b"null", b"true", b'""', b"[]", b"{}", b"[[1]]", b'"\\u0000"', b'"\\ud800"',
    b"1979-05-27", b"9" * 19, b"9" * 400, b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\0", b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r", b"\n", b'"', b"=", b",", b"~nobody0/x.toml", b"\xc3\x28", b"\x1f\x8b\x08\x04", b"../", b"%s{}",
)  # fmt: skip


TOKEN = re.compile(rb'"[^"\n]*"|\[[^\]\n]*\]|\{[^}\n]*\}|[-+.\w]+|[=:,]')


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a value or two in the place of others, or with a few bytes changed, or cut, or anything at all."""
    way = draw(st.sampled_from(["values", "values", "values", "bytes", "anything"]))
    if way == "anything":
        return draw(st.binary(max_size=64))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 2))):
        if way == "values" and (tokens := [match.span() for match in TOKEN.finditer(content)]):
            start, end = draw(st.sampled_from(tokens))
            content[start:end] = draw(st.sampled_from(PIECES))
        else:
            place = draw(st.integers(0, len(content)))
            content[place : place + draw(st.integers(0, 12))] = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 7)) == 0 else content)


JSON_VALUES = (
    None, True, 0, -1, 1.5, float("nan"), 2**63, 10**400, "", "x", "\ud800", [], [1], ["x"], [[]], {}, {"a": 1},
)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and object of a value, with the index or key of each thing in it."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


@st.composite
def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """Lines of JSON with one value replaced or left out, which is still JSON; or damaged as any other file."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(whole))
    lines = [json.loads(line) for line in whole.splitlines()]
    places = list(_places(lines))
    holder, key = places[draw(st.integers(0, len(places) - 1))]
    if draw(st.integers(0, 5)) == 0:
        del holder[key]
    else:
        holder[key] = draw(st.sampled_from(JSON_VALUES))
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def read_or_refuse(read: Callable[[Path], Any], file: Path, content: bytes) -> None:
    """Write a file and read it: that succeeds, or is refused in one line."""
    file.write_bytes(content)
    try:
        read(file)
    except UserError as refused:
        assert "\n" not in str(refused).strip()
