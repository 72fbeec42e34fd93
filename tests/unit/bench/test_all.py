"""Benches together in one file, and two such files side by side."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from polygen_stream.bench.suite.run_all import PARTS, compare, differences, measures, read_result


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "bench", "all", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=250)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "old.json"
    done = bench("--parts", "balance,trainer", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "| balance: captions/s |" in done.stdout and "| trainer: ours, ms a step |" in done.stdout
    return file


@pytest.mark.extended
def test_parts_are_measured_by_their_own_commands_and_compared_with_an_earlier_file(measured, tmp_path):
    slow = json.loads(measured.read_text())
    slow["parts"]["balance"]["captions_per_s"] *= 1e6
    file = tmp_path / "impossible.json"
    file.write_text(json.dumps(slow))
    done = bench("--parts", "balance", "--quick", "--compare", str(file))
    assert done.returncode == 1, "it got a million times worse"
    assert done.stdout.count("| worse |") == 1 and "trainer" not in done.stdout


@pytest.mark.extended
@pytest.mark.slow
def test_every_part_has_its_numbers(tmp_path):
    file = tmp_path / "all.json"
    done = subprocess.run(
        [sys.executable, "-m", "polygen_stream", "bench", "all", "--quick", "--json", str(file)], timeout=280
    )
    assert done.returncode == 0
    assert {measure.name.split(":")[0] for measure in measures(read_result(file))} == set(PARTS)


@pytest.mark.extended
def test_a_change_is_read_in_the_direction_of_the_number(measured):
    old = read_result(measured)
    new = copy.deepcopy(old)
    new["parts"]["balance"]["captions_per_s"] *= 1.2
    new["parts"]["balance"]["peak_rss_mib"] *= 1.2
    new["parts"]["trainer"]["step_ms"]["ours"] *= 0.8
    new["parts"]["trainer"]["step_ms"]["open_clip"] *= 1.05
    changes = {change.measure: change for change in compare(old, new, 0.1)}
    assert len(changes) == len(measures(old))
    assert {name for name, change in changes.items() if change.better} == {
        "balance: captions/s",
        "trainer: ours, ms a step",
    }
    assert {name for name, change in changes.items() if change.worse} == {"balance: peak MiB"}


@pytest.mark.extended
def test_another_machine_is_said(measured):
    old = read_result(measured)
    assert differences(old, old) == []
    other = {**old, "machine": {**old["machine"], "cpus": 64}, "quick": False}
    assert differences(old, other) == [
        f"cpus: {old['machine']['cpus']} before, 64 now",
        "one of them is a --quick run",
    ]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no JSON", "other.json is not JSON"),
        ("[]", "was not written by polygen-stream bench all"),
        ('{"machine": {}, "quick": true, "parts": {"ring": {}}}', "was not written by polygen-stream bench all"),
    ],
)
def test_a_file_that_is_none_is_named_before_anything_is_measured(tmp_path, content, said):
    file = tmp_path / "other.json"
    file.write_text(content)
    done = bench("--compare", str(file))
    assert done.returncode == 2 and said in done.stderr
    assert "Traceback" not in done.stderr and "bench ring" not in done.stderr


@pytest.mark.extended
def test_an_unknown_part_is_named():
    done = bench("--parts", "ring,disk")
    assert done.returncode == 2 and "'disk' is none of ring, generators" in done.stderr
