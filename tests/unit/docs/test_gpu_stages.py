"""The stages of `make gpu-test`: their tests exist, none is in no stage, and the pages name them as they are."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("gpu_test", ROOT / "tools" / "gpu_test.py")
gpu_test = importlib.util.module_from_spec(SPEC)
sys.modules["gpu_test"] = gpu_test
SPEC.loader.exec_module(gpu_test)


@cache
def collected() -> dict[str, list[str]]:
    """The tests that pytest finds in each stage, by name."""
    wanted = {name: list(stage.tests) for name, stage in gpu_test.STAGES.items()}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *chain(*wanted.values())], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if "::" in line]
    return {
        name: [test for test in found if test.startswith(tuple(f"{each}[" if "::" in each else each for each in tests))
               or test in tests]
        for name, tests in wanted.items()
    }  # fmt: skip


def assumptions() -> list[tuple[str, str]]:
    """The rows of the page's last table: what is assumed, what decides it."""
    page = (ROOT / "docs" / "gpu-rehearsal.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", page.partition("## What is assumed")[2], re.M)
    return rows[2:]  # below the heading and its line


@pytest.mark.extended  # collects the tests anew
def test_every_stage_has_tests_and_no_test_is_in_two():
    assert all(collected().values())
    twice = [test for test, count in Counter(chain(*collected().values())).items() if count > 1]
    assert not twice


def test_every_file_with_tests_for_a_gpu_is_in_a_stage():
    files = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^\s*(?:@|pytestmark = \[?)?pytest\.mark\.gpu\b|marks=pytest\.mark\.gpu", file.read_text(), re.M)
    }
    assert len(files) > 10
    assert files == {test.partition("::")[0] for test in chain(*collected().values())}


@pytest.mark.parametrize(("assumed", "decided_by"), assumptions(), ids=range(len(assumptions())))
def test_every_assumption_names_a_test_in_a_stage_or_a_command(assumed: str, decided_by: str):
    tests = list(chain(*collected().values()))
    named = re.findall(r"`(tests/[^`]+)`", decided_by)
    missing = [name for name in named if not any(re.split(r"\[", test)[0].startswith(name) for test in tests)]
    assert not missing, assumed
    assert named or "`polygen-stream " in decided_by, f"nothing decides: {assumed}"


def test_ten_assumptions_are_listed():
    assert len(assumptions()) == 10
    assert sum("`tests/" in decided_by for _, decided_by in assumptions()) == 9


def test_the_page_on_gpus_names_every_stage():
    page = (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8")
    for name, stage in gpu_test.STAGES.items():
        assert f"| {name} | {stage.title} |" in page
        assert (ROOT / "tests" / "gpu" / "packages" / f"stage-{name}.txt").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["5"], "STAGE 5 is none of 1, 2, 3, 4"),
        (["1", "2", "--wheels", "wheels"], "--wheels holds those of one stage: name it"),
        (["1", "--out", "nowhere"], "--out nowhere is no folder"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, tmp_path: Path):
    command = [sys.executable, str(ROOT / "tools" / "gpu_test.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(f"error: {told}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: tools/gpu_test_bundle.sh STAGE FOLDER"),
        (["7", "new"], "error: there is no stage 7: tests/gpu/packages has"),
        (["1", "full"], "error: full is not empty: name a new folder"),
    ],
)
def test_a_bundle_that_cannot_be_made_is_refused_in_one_line(words: list[str], told: str, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    command = [str(ROOT / "tools" / "gpu_test_bundle.sh"), *words]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(told)
    assert (tmp_path / "full" / "kept").exists()
