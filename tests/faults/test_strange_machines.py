"""Ordinary machines that are not like ours: no home, ASCII, narrow terminals, few files, caches of others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NOWHERE = "/proc/nowhere"  # cannot be made, not even by root
SURROUNDINGS = {
    "ascii": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    "narrow": {"TERM": "dumb", "COLUMNS": "20", "LINES": "5"},
    "caches": {"HF_HOME": NOWHERE, "XDG_CACHE_HOME": NOWHERE, "HOME": NOWHERE, "MPLCONFIGDIR": NOWHERE},
    "homeless": {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None},
    "few files": {},
}
TINY = (
    "--captions.source", "grammar", "--captions.target", "60", "--generators.recipes", "micro/sdxl_turbo",
    "--generators.positives", "1", "--generators.negatives", "1", "--train.batch", "8", "--train.steps", "2",
    "--ring.slots", "256", "--ring.min_fill", "16", "--evaluate.every", "0", "--evaluate.images_per_thing", "1",
)  # fmt: skip


def command(*words: str, cwd: Path, files: int = 0, user: bool = True, **environment: str | None):
    """A command in other surroundings: so many open files at most, and a user whom /etc/passwd does not know."""
    merged = {**os.environ, **environment}
    line = [sys.executable, "-m", "polygen_stream", *words]
    if files:
        line = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "bash", *line]
    if not user:
        line = ["unshare", "-U", "--map-user=12345", "--map-group=12345", *line]
    clean = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run(line, cwd=cwd, env=clean, capture_output=True, timeout=240)


def others() -> Iterator[bool]:
    """Whether a process may have a user id of its own here."""
    done = subprocess.run(["unshare", "-U", "--map-user=12345", "true"], capture_output=True)
    yield done.returncode == 0


def strange(name: str) -> dict:
    kept = {"files": 64 if name == "few files" else 0, "user": name != "homeless"}
    return kept | SURROUNDINGS[name]


needs_user = pytest.mark.skipif(not next(others()), reason="needs user namespaces")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_user if name == "homeless" else ()) for name in SURROUNDINGS]
)
@pytest.mark.parametrize("words", ["run --dry-run", "doctor", "build-engines --list", "plan --gpus 2"])
def test_a_command_answers_in_strange_surroundings(tmp_path, name, words):
    """With what it was asked for, or with one line and exit code 2."""
    (tmp_path / "\u00e9\u4e2d.toml").write_text("name = 'mine'\n")
    more = ["\u00e9\u4e2d.toml"] if words.startswith("run") and name != "ascii" else []
    done = command(*words.split(), *more, cwd=tmp_path, **strange(name))
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 2)
    if done.returncode == 2:
        assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith(b"error: ")
        assert name in ("homeless", "caches") and b"POLYGEN_STREAM_CACHE" in done.stderr


@needs_user
def test_a_run_completes_where_all_of_it_is_strange(tmp_path):
    """Without a home, in ASCII, with 64 files a process and caches that cannot be written."""
    environment = {**SURROUNDINGS["ascii"], **SURROUNDINGS["narrow"], **SURROUNDINGS["homeless"], "HF_HOME": NOWHERE}
    tmp_path.chmod(0o777)
    run = tmp_path / "run-\u00e9"
    done = command("run", *TINY, "--run-dir", str(run), cwd=tmp_path, files=64, user=False, **environment)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    logs = "".join(log.read_text(errors="replace") for log in (run / "logs").glob("*.log"))
    assert "Traceback" not in said + logs and (run / "report.html").is_file()
