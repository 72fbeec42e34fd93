"""Files that users write or bring may hold anything: each is read, or refused with one UserError; nothing hangs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
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
    max_examples=60, deadline=None, database=None, derandomize=True,
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


def _shard() -> bytes:
    image, data = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "png")
    about = {"task": 0, "member": 0, "polarity": "positive", "generator": "g", "seed": 1}
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        files = {"0.png": image.getvalue(), "0.txt": b"a red car", "0.json": json.dumps(about).encode()}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


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
    "config": (_read_config, "run.toml", config_path("micro").read_bytes()),
    "recipe": (lambda file: load_recipe(str(file)), "mine.toml", recipe_path("micro/sd15").read_bytes()),
    "experiment": (load_experiment, "e.toml", experiment_path("reuse").read_bytes()),
    "bank": (lambda file: load_bank(str(file)), "bank.json", b'["dog", "cr\\u00e8me br\xc3\xbbl\xc3\xa9e", "a cat"]'),
    "captions": (lambda file: read_lines(file, "captions"), "captions.txt", b"a dog\r\na caf\xc3\xa9\n"),
    "model config": (read_model_config, "clip.json", b'{"embed_dim": 32, "vision_cfg": {}, "text_cfg": {"width": 3}}'),
    "shards": (_read_shards, "0.tar", _shard()),
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


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with a few places replaced, or cut, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 12))] = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 4)) == 0 else content)


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
    @given(content=damaged(READERS[kind][2]))
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
