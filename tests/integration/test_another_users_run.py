"""A run folder that can be read and not written: it is shown, and what could not be kept is not computed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from another_user import give_away, heeding_permissions
from run_folders import make_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "run")
    give_away(folder)
    with pytest.raises(subprocess.CalledProcessError):  # or the test would show nothing
        subprocess.run(["touch", str(folder / "x")], check=True, stderr=subprocess.DEVNULL, **heeding_permissions())
    return folder


def cli(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polygen_stream", *words], cwd=cwd, capture_output=True, text=True, timeout=120,
        **heeding_permissions(),
    )  # fmt: skip


def test_a_status_is_shown(run_dir, tmp_path):
    done = cli(tmp_path, "status", str(run_dir))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "completed" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report {run}", "error: cannot write {run}/report.html: Permission denied ({run})"),
        ("report {run} {run} --out {run}/c.html", "error: cannot write {run}/c.html: Permission denied ({run})"),
        ("analyze {run}", "error: cannot write {run}/analysis.json: Permission denied ({run})"),
        ("export {run} --out {run}/shards", "error: cannot write {run}/shards: Permission denied ({run})"),
        ("evaluate {run} --json {run}/s.json", "error: cannot write {run}/s.json: Permission denied ({run})"),
    ],
)
def test_what_could_not_be_kept_is_not_computed(run_dir, tmp_path, words, message):
    before = sorted(run_dir.rglob("*"))
    done = cli(tmp_path, *words.format(run=run_dir).split())
    assert done.returncode == 2, done
    assert done.stderr.splitlines() == [message.format(run=run_dir)]
    assert sorted(run_dir.rglob("*")) == before and not list(tmp_path.iterdir())
