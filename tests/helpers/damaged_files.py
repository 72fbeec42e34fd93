"""Files that are damaged, or were never what they are taken for: strategies, and what reading them may cost."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
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


def assert_any_bytes_are_read_or_refused(
    read: Callable[[Path], Any], file: Path, damage: st.SearchStrategy[bytes]
) -> None:
    """Puts a reader through damaged files, an empty one, and one of bytes that are no text."""

    @EXAMPLES
    @given(content=damage)
    @example(content=b"")
    @example(content=b"\xff" * 9)
    def any_bytes(content: bytes) -> None:
        read_or_refuse(read, file, content)

    any_bytes()


def _safetensors(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


MIB = 2**20
BASE_MIB = 64  # of memory, whatever the size of the file
# Files that cost more than their size lets one expect, where a reader is careless.
LARGE = {
    "one line": b"a" * 4 * MIB,
    "NULs": bytes(4 * MIB),
    "blank lines": b"\n" * MIB,
    "lines": b"".join(b"a %d\n" % i for i in range(100_000)),
    "UTF-16": b"\xff\xfe" + "a\n".encode("utf-16-le") * MIB,
    "nested lists": b"x = " + b"[" * 200_000,
    "nested tables": b"x = " + b"{a=" * 50_000,
    "nested JSON": b'{"a":' * 200_000,
    "a key of many parts": b"a" + b".a" * 20_000 + b" = 1\n",
    "a table of many parts": b"[a" + b' . "a"' * 20_000 + b"]\n",
    "many keys": b"".join(b"k%d = 1\n" % i for i in range(50_000)),
    "many tables": b"".join(b"[a%d]\n" % i for i in range(50_000)),
    "a long name": b"[" + b"9" * MIB + b"]",
    "digits": b"x = " + b"9" * MIB,
    "JSON digits": b'{"step": ' + b"9" * MIB + b"}\n",
    "JSON numbers": b"[" + b"1," * (MIB // 4) + b"1]",
    "JSON names": b"{" + b",".join(b'"k%d":0' % i for i in range(50_000)) + b"}\n",
    "a safetensors header of 2**60 bytes": (2**60).to_bytes(8, "little") + b'{"a":{}}',
    "a safetensors tensor of 2**60 bytes": _safetensors(
        {"a": {"dtype": "U8", "shape": [2**60], "data_offsets": [0, 2**60]}}
    ),
}


def cost(read: Callable[[Path], Any], file: Path) -> tuple[float, float, str]:
    """Read a file in a process of its own: MiB of memory at its peak, seconds of processor time, what came of it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(read, file, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return 0.0, 0.0, "the process died"
    finally:
        child.join()


def assert_cheap(read: Callable[[Path], Any], file: Path, content: bytes) -> None:
    """A file is read or refused within 10 s, and with 20 times its size of memory, or so much that it is no matter."""
    file.write_bytes(content)
    memory, seconds, outcome = cost(read, file)
    assert outcome in ("read", "refused"), outcome
    assert memory < BASE_MIB + 20 * len(content) / MIB and seconds < 10, (memory, seconds)


def _measure(read: Callable[[Path], Any], file: Path, sender: Any) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, began = _peak_mib(), _processor_s()
    try:
        read(file)
        outcome = "read"
    except UserError:
        outcome = "refused"
    except BaseException as problem:
        outcome = f"{type(problem).__name__}: {str(problem)[:200]}"
    sender.send((_peak_mib() - before, _processor_s() - began, outcome))


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def assert_large_files_are_cheap(read: Callable[[Path], Any], file: Path, whole: bytes) -> None:
    """Puts a reader through LARGE. whole: a file that is not damaged, with which it imports what it needs."""
    file.write_bytes(whole)
    read(file)
    for content in LARGE.values():
        assert_cheap(read, file, content)
