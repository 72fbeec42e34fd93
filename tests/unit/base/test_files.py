"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.files import PARTIAL, nearest_existing, replacing, write_atomically
from polygen_stream.base.json_files import read_json, write_json
from polygen_stream.base.jsonl import cut_jsonl
from polygen_stream.config import RunConfig, dump_config
from polygen_stream.launch import guardian


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_in_one_piece(tmp_path, durable):
    file = tmp_path / "state.json"
    write_atomically(file, "alt\n", durable=durable)
    with replacing(file, durable=durable) as stream:
        stream.write(b"new")
        assert file.read_text() == "alt\n", "until the block ends"
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "state.json"
    file.write_text("old")
    with pytest.raises(RuntimeError), replacing(file) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.extended
def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    file = tmp_path / "state.json"
    file.write_text("old")
    code = """
import os, signal, sys
from pathlib import Path
from polygen_stream.base.files import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(file)], env=os.environ).returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    [left] = [path.name for path in tmp_path.iterdir() if path != file]
    assert left.startswith(PARTIAL), "by which the end of a run finds it"


def test_the_guardian_knows_the_names_of_what_is_being_written():
    assert guardian.PARTIAL == PARTIAL


def test_the_nearest_folder_that_exists(tmp_path):
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert nearest_existing(tmp_path) == tmp_path


def test_a_json_file_comes_back(tmp_path):
    file = tmp_path / "summary.json"
    assert read_json(file) == {}, "there is none"
    write_json(file, {"status": "completed"})
    assert read_json(file, required=("status",)) == {"status": "completed"}
    with pytest.raises(ValueError):
        write_json(file, {"loss": float("nan")}, allow_nan=False)
    assert json.loads(file.read_text()) == {"status": "completed"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not JSON"),
        (b'{"status": "comp', "it is not JSON"),
        (bytes(range(256)), "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[1]", "it holds a list, not an object"),
        (b'{"steps": 3}', "it has no status"),
    ],
)
def test_a_damaged_json_file_is_refused_in_one_line(tmp_path, content, why):
    file = tmp_path / "summary.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_json(file, required=("status",))
    assert str(raised.value) == f"{file} is damaged ({why}): restore it, or delete it to go on without it"


def test_the_state_of_a_run_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Or a power failure would leave an empty file in the place of a good one."""
    happened = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (happened.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (happened.append(to.name), replace(self, to)))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    for name, write in (
        ("summary.json", lambda file: write_json(file, {"status": "completed"})),
        ("config.toml", lambda file: dump_config(RunConfig(), file)),
        ("metrics.jsonl", lambda file: cut_jsonl(file, 2)),
    ):
        happened.clear()
        write(tmp_path / name)
        assert happened == ["fsync", name, "fsync"]  # the content, the rename, the folder
