"""`polygen-stream experiment` on a tiny pool: rendered, trained on, killed, continued."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
ARMS = [
    {"name": "one", "captions": 32, "positives": 1, "ensembles": [["micro/sdxl_turbo"]]},
    {"name": "both", "captions": 16, "positives": 2, "ensembles": [["micro/sana", "micro/sdxl_turbo"]]},
]


def write(path: Path, arms: list[dict]) -> None:
    tables = {
        "name": "tiny",
        "title": "A tiny experiment",
        "text": "Nothing can be learnt from it.",
        "steps": 40,
        "images_per_step": 16,
        "baseline": "one",
        "learning_rates": [1e-3],
        "seeds": 2,
        "pools": 2,
        "pool": {
            "seed": 0,
            "captions": 48,
            "held_out": 16,
            "generators": ["micro/sana", "micro/sdxl_turbo"],
            "layers": [{"captions": 32}],
        },
        "arms": arms,
        "contrasts": [{"arm": "both", "against": "one", "question": "two generators?"}],
    }
    path.write_text(tomli_w.dumps(tables))


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    words = ["experiment", folder / "tiny.toml", "--out", folder / "results"]
    if "--page" not in options:
        words += ["--pools", folder / "pools", "--jobs", "1"]
    command = [sys.executable, "-m", "polygen_stream", *map(str, words), *options]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(folder: Path, *options: str) -> str:
    process = start(folder, *options)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return out


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results" / "tiny.csv", newline="") as file:
        return list(csv.DictReader(file))


def nobody_left(group: int, limit_s: float = 20) -> bool:
    """Whether all processes that it started have ended."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.timeout(900)
def test_an_experiment_is_killed_continued_and_changed(tmp_path: Path):
    write(tmp_path / "tiny.toml", ARMS)
    table = tmp_path / "results" / "tiny.csv"
    process = start(tmp_path)
    while not table.exists() and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None, process.stdout.read()
    process.kill()
    process.wait()
    assert nobody_left(process.pid)
    first = rows(tmp_path)
    assert len(first) == 1
    rendered = {path: path.stat().st_mtime_ns for path in (tmp_path / "pools").rglob("*.npy")}

    out = finish(tmp_path)
    assert "page: " in out
    all_rows = rows(tmp_path)
    assert {(row["arm"], row["seed"]) for row in all_rows} == {(a, s) for a in ("one", "both") for s in "01"}
    assert first[0] in all_rows  # what was done before the kill is not done again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pools").rglob("*.npy")} == rendered
    assert {row["images_seen"] for row in all_rows} == {"640"}
    assert {row["images_rendered"] for row in all_rows} == {"32"}
    assert {(row["seed"], row["pool"]) for row in all_rows} == {("0", "0"), ("1", "1")}
    assert len(list((tmp_path / "pools").iterdir())) == 2
    page = (tmp_path / "results" / "tiny.md").read_text()
    assert re.search(r"\| micro/sana \| \d+ \| \d+ \| \d+ \(\d", page)  # images that show a reserved combination
    assert re.search(r"\| two generators\? \| both - one \| Delta_MTL \| [+-]\d", page)
    assert (tmp_path / "results" / "tiny.png").stat().st_size > 10_000

    write(tmp_path / "tiny.toml", [ARMS[0], ARMS[1] | {"config": {"train.weight_decay": 0.3}}])
    finish(tmp_path)
    changed = {(row["arm"], row["seed"]): row for row in rows(tmp_path)}
    assert len(changed) == 4
    for row in all_rows:
        again = changed[row["arm"], row["seed"]]
        assert (again == row) == (row["arm"] == "one")

    before = table.stat().st_mtime_ns
    finish(tmp_path, "--page")
    assert table.stat().st_mtime_ns == before


def test_a_mistake_is_one_line(tmp_path: Path):
    write(tmp_path / "tiny.toml", [ARMS[0]])
    process = start(tmp_path)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert out.strip() == f"error: {tmp_path}/tiny.toml: there is no arm 'both': did you mean 'one'?"


def test_a_page_of_nothing_says_so(tmp_path: Path):
    write(tmp_path / "tiny.toml", ARMS)
    process = start(tmp_path, "--page")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert out.strip() == (
        f"error: {tmp_path}/results/tiny.csv has 0 runs of the baseline one; a page needs two: leave --page out"
    )
