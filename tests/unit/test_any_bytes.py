"""Files that users write or bring may hold anything: each is read, or refused with one UserError; nothing hangs."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from polygen_stream.assets.model_configs import read_model_config
from polygen_stream.assets.resources import config_path, experiment_path, recipe_path
from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.concepts import load_bank, read_lines
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry, read_journal, read_provenances
from polygen_stream.config import load_config
from polygen_stream.config.keys import all_keys
from polygen_stream.experiment.load import load_experiment
from polygen_stream.export.reading import read_tasks
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring.draw_log import DrawLog, read_draw_log
from polygen_stream.schedule.ledger import Ledger

EXAMPLES = settings(
    max_examples=150, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def _journal() -> bytes:
    ledger = Ledger(3, ("a cat", "a dog"), ("colour", "size"), 2, 2)
    outcomes = [
        Caption("a cat on a mat"),
        Caption("a dog", "a cat", "size", ("caption: x",)),
        Dropped(("negative: y",)),
    ]
    lines = [JournalEntry(ledger.task(i), i == 1, outcome).to_json() for i, outcome in enumerate(outcomes)]
    return "".join(f"{line}\n" for line in ['{"provenance": {"concepts": "x"}}', *lines]).encode()


def _image() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "png")
    return data.getvalue()


ABOUT = {"task": 0, "member": 0, "polarity": "positive", "generator": "g", "seed": 1}
FILES = {"0.png": _image(), "0.txt": b"a red car", "0.json": json.dumps(ABOUT).encode()}


def _shard(files: Mapping[str, bytes], names: Sequence[str] = tuple(FILES)) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return data.getvalue()


def _without_comments(file: Path) -> bytes:
    return b"".join(line.partition(b"#")[0].rstrip() + b"\n" for line in file.read_bytes().splitlines())


def _read_config(file: Path) -> None:
    build_process_plan(load_config(file), there=False)


def _read_journal(file: Path) -> None:
    list(read_journal(file))
    list(read_provenances(file))
    CaptionJournal(file).close()


def _read_draw_log(file: Path) -> None:
    list(read_draw_log(file))
    DrawLog(file, first_step=1).close()


def _read_shards(file: Path) -> None:
    for task in read_tasks(file.parent, ("g",)):
        for sample in task:
            sample.image(8)


READERS: dict[str, tuple[Callable[[Path], Any], str, bytes]] = {
    "config": (_read_config, "run.toml", _without_comments(config_path("micro"))),
    "recipe": (lambda file: load_recipe(str(file)), "mine.toml", _without_comments(recipe_path("micro/sd15"))),
    "experiment": (load_experiment, "e.toml", _without_comments(experiment_path("reuse"))),
    "bank": (lambda file: load_bank(str(file)), "bank.json", b'["dog", "cr\\u00e8me br\xc3\xbbl\xc3\xa9e", "a cat"]'),
    "captions": (lambda file: read_lines(file, "captions"), "captions.txt", b"a dog\r\na caf\xc3\xa9\n"),
    "model config": (read_model_config, "clip.json", b'{"embed_dim": 32, "vision_cfg": {}, "text_cfg": {"width": 3}}'),
    "shards": (_read_shards, "0.tar", _shard(FILES)),
    "journal": (_read_journal, "journal.jsonl", _journal()),
    "draw log": (
        _read_draw_log,
        "draws.jsonl",
        b'{"step": 0, "plain": [1, 2], "pair": [3], "generations": [1, 1, 1]}\n',
    ),
}
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


@st.composite
def damaged_shards(draw: st.DrawFn) -> bytes:
    """A tar with other contents of its files, in another order, or damaged as a file."""
    if draw(st.integers(0, 2)) == 0:
        return draw(damaged(_shard(FILES)))
    name = draw(st.sampled_from(sorted(FILES)))
    names = draw(st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=4))
    content = draw(damaged_json(FILES[name]) if name.endswith("json") else damaged(FILES[name]))
    return _shard({**FILES, name: content}, names)


def damaged_file(kind: str) -> st.SearchStrategy[bytes]:
    """The strategy for a kind of file."""
    whole = READERS[kind][2]
    if kind == "shards":
        return damaged_shards()
    return damaged_json(whole) if kind in ("bank", "model config", "journal", "draw log") else damaged(whole)


def read_or_refuse(kind: str, folder: Path, content: bytes) -> None:
    read, name, _ = READERS[kind]
    (folder / name).write_bytes(content)
    try:
        read(folder / name)
    except UserError as refused:
        assert "\n" not in str(refused).strip()


@pytest.mark.parametrize("kind", READERS)
def test_the_undamaged_file_is_read(kind, tmp_path):
    (tmp_path / "pool.toml").write_bytes(experiment_path("reuse").with_name("pool.toml").read_bytes())
    read, name, whole = READERS[kind]
    (tmp_path / name).write_bytes(whole)
    read(tmp_path / name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_read_or_refused(kind, tmp_path):
    (tmp_path / "pool.toml").write_bytes(experiment_path("reuse").with_name("pool.toml").read_bytes())

    @EXAMPLES
    @given(content=damaged_file(kind))
    @example(content=b"")
    @example(content=b"\xff" * 9)
    def check(content: bytes) -> None:
        read_or_refuse(kind, tmp_path, content)

    check()


VALUES = (
    "0", "1", "-1", "7", "9223372036854775807", "9" * 30, "9" * 400, "1e308", "-0.0", "nan", "inf", "true",
    "''", "'x'", "'x:y'",
    "'\\'", '"\\u0000"', '"~nobody0/x.toml"', "'./x.json'", "'cuda:999'", "[]", "['a', 'a']", "['micro/sd15']", "[[]]",
    "{}", "{ a = 1 }", "{ 'micro/sd15' = [] }", "{ 'micro/sd15' = ['cpu', 'cuda'] }", "1979-05-27", "'http://[::1'",
    "'tensorrt'", "'shards'", "'openai'", "'deterministic'", "'replay'", "'auto'", "'('",
)  # fmt: skip


@pytest.mark.timeout(60)
@EXAMPLES
@given(data=st.data())
def test_any_values_of_a_config_are_taken_or_refused(data, tmp_path):
    keys = sorted(all_keys())
    chosen = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=4, unique=True))
    tables: dict[str, list[str]] = {}
    for key in chosen:
        section, _, leaf = key.rpartition(".")
        tables.setdefault(section, []).append(f"{leaf} = {data.draw(st.sampled_from(VALUES))}")
    text = "\n".join([*tables.pop("", []), *(f"[{name}]\n" + "\n".join(lines) for name, lines in tables.items())])
    read_or_refuse("config", tmp_path, text.encode())
