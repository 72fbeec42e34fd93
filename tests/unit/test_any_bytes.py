"""Files that users write or bring may hold anything: each is read, or refused with one UserError; nothing hangs."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from damaged_files import (
    EXAMPLES,
    assert_any_bytes_are_read_or_refused,
    assert_large_files_are_cheap,
    damaged,
    damaged_json,
    read_or_refuse,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from small_rings import open_plain, pictures, small_spec

from polygen_stream.assets.model_configs import read_model_config
from polygen_stream.assets.resources import config_path, experiment_path, recipe_path
from polygen_stream.captions.banks.concepts import load_bank, read_lines
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry, read_journal, read_provenances
from polygen_stream.checkpoints import check, config_hash, read_meta
from polygen_stream.config import RunConfig, dump_config, load_config
from polygen_stream.config.keys import all_keys
from polygen_stream.evaluate.scores_file import read_scores
from polygen_stream.experiment.load import load_experiment
from polygen_stream.export.reading import read_tasks
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.launch.watch.status_query import status_of
from polygen_stream.launch.watch.status_report import show_status
from polygen_stream.ring import Ring
from polygen_stream.ring.draw_log import DrawLog, read_draw_log
from polygen_stream.ring.snapshot import save_snapshot
from polygen_stream.ring.snapshot_file import SnapshotFile
from polygen_stream.schedule.ledger import Ledger


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


def _snapshot() -> bytes:
    with closing(Ring.create(small_spec())) as ring, tempfile.TemporaryDirectory() as folder:
        ring.register("test", "test")
        open_plain(ring, 0)
        ring.commit(claims := ring.claim([0, 1], 2), pictures(claims))
        save_snapshot(ring, file := Path(folder) / "ring.safetensors", payload=True)
        return file.read_bytes()


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


def _read_checkpoint(file: Path) -> None:
    meta = read_meta(file.parent)
    check(file.parent, CONFIG if meta["final"] else RunConfig())


def _read_run(file: Path) -> None:
    """A run that is over: its state is told from what it left behind."""
    dump_config(CONFIG, file.parent / "config.toml")
    show_status(status_of(file.parent), Console(file=io.StringIO()))


CONFIG = load_config(None, {"ring.slots": "64", "ring.min_fill": "8", "train.batch": "8"})
META = {
    "step": 200, "final": True, "model": "micro", "model_config": {}, "config_hash": config_hash(CONFIG),
    "files": {"x": {"bytes": 0, "blake2b": "cae66941d9efbd404e4d88758ea67670"}},
}  # fmt: skip
EVENTS = (
    {"time": "t", "event": "restart", "process": "captioner", "reason": "died", "pause_s": 0.5, "in_a_row": 1},
    {
        "time": "t",
        "event": "degraded",
        "generator": "micro/sana",
        "reason": "died",
        "step": 3,
        "text": "without micro/sana",
    },
    {"time": "t", "event": "recorder", "reason": "died"},
    {"time": "t", "event": "resume", "step": 3},
)


READERS: dict[str, tuple[Callable[[Path], Any], str, bytes]] = {
    "config": (_read_config, "run.toml", _without_comments(config_path("micro"))),
    "recipe": (lambda file: load_recipe(str(file)), "mine.toml", _without_comments(recipe_path("micro/sd15"))),
    "experiment": (load_experiment, "e.toml", _without_comments(experiment_path("image-image"))),
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
    "checkpoint": (_read_checkpoint, "checkpoints/step_000200/meta.json", json.dumps(META).encode()),
    "summary": (_read_run, "summary.json", b'{"status": "completed", "resumes": [{"step": 3}]}'),
    "provenance": (_read_run, "provenance.json", b'{"resumed": [{"step": 3}]}'),
    "events": (
        _read_run,
        "events.jsonl",
        b"".join(json.dumps({"time": "t"} | each).encode() + b"\n" for each in EVENTS),
    ),
    "recorder": (_read_run, "recorder.json", b'{"captions": 3, "pictures": 6, "folder": "shards"}'),
    "metrics": (
        _read_run,
        "metrics.jsonl",
        b'{"step": 0, "time": 0.5, "wait_s": 0.1, "step_s": 0.2, "loss": 4.5, "p": 0.1}\n' * 3,
    ),
    "scores": (
        read_scores,
        "scores.json",
        b'{"scores": {"t": {"s": {"score": 0.5, "low": 0.4, "high": 0.6, "n": 3, "chance": 0.1}}}, "read": {"d": []}}',
    ),
    "ring snapshot": (lambda file: [*SnapshotFile(file).pictures()], "ring.safetensors", _snapshot()),
}
JSON = (
    "bank", "model config", "journal", "draw log", "checkpoint", "summary", "provenance", "events", "recorder",
    "metrics", "scores",
)  # fmt: skip


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
    if kind == "ring snapshot":
        return damaged(whole[:4000]).map(lambda head: head + whole[4000:])
    return damaged_json(whole) if kind in JSON else damaged(whole)


def _folder(kind: str, folder: Path) -> Path:
    """A folder for a reader's file, which is returned, with what else belongs there."""
    (folder / "pool.toml").write_bytes(experiment_path("image-image").with_name("pool.toml").read_bytes())
    file = folder / READERS[kind][1]
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "checkpoint":
        (file.parent / "x").touch()
    return file


@pytest.mark.parametrize("kind", READERS)
def test_the_undamaged_file_is_read(kind, tmp_path):
    (read, _, whole), file = READERS[kind], _folder(kind, tmp_path)
    file.write_bytes(whole)
    read(file)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_read_or_refused(kind, tmp_path):
    read, file = READERS[kind][0], _folder(kind, tmp_path)
    assert_any_bytes_are_read_or_refused(read, file, damaged_file(kind))


@pytest.mark.extended  # hundreds of processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", READERS)
def test_a_file_costs_no_more_than_its_size_lets_one_expect(kind, tmp_path):
    (read, _, whole), file = READERS[kind], _folder(kind, tmp_path)
    assert_large_files_are_cheap(read, file, whole)


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
    read_or_refuse(_read_config, tmp_path / "run.toml", text.encode())
