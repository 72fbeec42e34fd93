"""`polygen-stream bench all`: every bench in one file, and that file beside an earlier one.

Each part is its own command in a process of its own, so that none inherits threads, memory or caches of another.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.json_files import read_user_json
from polygen_stream.base.python import python_command
from polygen_stream.bench.ring.benchmark import LARGE, SMALL, machine

# What a short run of each part is called with. `bench captions` is none of them: it wants vLLM's interpreter.
QUICK = {
    "ring": ("--quick",),
    "generators": ("--batches", "4", "--repeats", "1"),
    "balance": ("--captions", "20000"),
    "trainer": ("--pairs", "10", "--batch", "16"),
    "evaluation": ("--pairs", "10", "--batch", "16"),
    "end-to-end": ("--steps", "40", "--captions", "64", "--batch", "16"),
}
PARTS = tuple(QUICK)
SAME_MACHINE = ("cpu", "cpus", "python")


@dataclass(frozen=True)
class Measure:
    """One number of a part. more_is_better: how to read a change."""

    name: str
    value: float
    more_is_better: bool


def bench_all(parts: Sequence[str], quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """{"machine", "quick", "parts": {part: its own JSON}}.

    Raises:
        PolygenError: a part failed.
    """
    result: dict[str, Any] = {"machine": machine(), "quick": quick, "parts": {}}
    with TemporaryDirectory() as folder:
        for part in parts:
            say(f"bench {part}")
            file = Path(folder) / f"{part}.json"
            words = ["bench", part, "--json", str(file), *(QUICK[part] if quick else ())]
            done = subprocess.run(python_command("-m", "polygen_stream", *words), stdout=subprocess.DEVNULL)
            if done.returncode:
                raise PolygenError(f"bench {part} ended with exit code {done.returncode}, see above")
            result["parts"][part] = json.loads(file.read_text())
    return result


def read_result(file: Path) -> dict[str, Any]:
    """What `bench all --json` wrote. Raises UserError when the file is something else."""
    result = read_user_json(file, "result of `bench all`")
    try:
        measures(result)
        return {key: result[key] for key in ("machine", "quick", "parts")}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as problem:
        raise UserError(f"{file} was not written by polygen-stream bench all --json ({problem})") from None


def measures(result: Mapping[str, Any]) -> list[Measure]:
    """The numbers that are compared, those that a change of the code is meant to move or to leave alone."""
    found = []
    for part, measured in result["parts"].items():
        found += [Measure(f"{part}: {name}", value, more) for name, value, more in _OF_PART[part](measured)]
    return found


@dataclass(frozen=True)
class Change:
    """A measure before and now. One that moved by more than the tolerance is worse or better."""

    measure: str
    old: float
    new: float
    worse: bool  # by more than the tolerance
    better: bool


def compare(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> list[Change]:
    """Every number that both have. tolerance: relative change that counts as none."""
    before = {measure.name: measure.value for measure in measures(old)}
    changes = []
    for measure in measures(new):
        if measure.name in before:
            low, high = sorted((before[measure.name], measure.value))
            moved = high > low * (1 + tolerance) if low > 0 else high > low
            gained = moved and (measure.value > before[measure.name]) == measure.more_is_better
            changes.append(Change(measure.name, before[measure.name], measure.value, moved and not gained, gained))
    return changes


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why two measurements can hardly be compared; empty if they can."""
    found = [
        f"{key}: {old['machine'].get(key)} before, {new['machine'].get(key)} now"
        for key in SAME_MACHINE
        if old["machine"].get(key) != new["machine"].get(key)
    ]
    if old["quick"] != new["quick"]:
        found.append("one of them is a --quick run")
    return found


_Numbers = list[tuple[str, float, bool]]


def _ring(measured: Mapping[str, Any]) -> _Numbers:
    draw = measured["draw"]["one_image_a_caption"]
    return [
        *(
            (f"{case}, share of the limit", measured["ours"][case]["of_limit"]["median"], True)
            for case in (LARGE, SMALL)
        ),
        (f"draw from {draw['slots']} slots, ms under the mutex", draw["held_ms"]["median"], False),
    ]


def _generators(measured: Mapping[str, Any]) -> _Numbers:
    return [
        (f"{row['generator']}, {row['backend']}, batch {row['batch']}, images/s", row["images_per_s"], True)
        for row in measured["results"]
    ]


def _balance(measured: Mapping[str, Any]) -> _Numbers:
    return [("captions/s", measured["captions_per_s"], True), ("peak MiB", measured["peak_rss_mib"], False)]


def _trainer(measured: Mapping[str, Any]) -> _Numbers:
    steps = [(f"{loop}, ms a step", milliseconds, False) for loop, milliseconds in measured["step_ms"].items()]
    return steps + [(f"step over {loop}", ratio["median"], False) for loop, ratio in measured["ratio"].items()]


def _evaluation(measured: Mapping[str, Any]) -> _Numbers:
    return [(f"step, {kind}", ratio["median"], False) for kind, ratio in measured["ratio"].items()]


def _end_to_end(measured: Mapping[str, Any]) -> _Numbers:
    streaming, compared = measured["streaming"], measured["compared"]
    return [
        ("first step sooner, times", compared["first_step_sooner"], True),
        ("seconds over offline", compared["seconds_ratio"], False),
        ("area over offline", compared["area_ratio"], True),
        ("final accuracy", streaming["accuracy"], True),
    ]


_OF_PART: dict[str, Callable[[Mapping[str, Any]], _Numbers]] = {
    "ring": _ring,
    "generators": _generators,
    "balance": _balance,
    "trainer": _trainer,
    "evaluation": _evaluation,
    "end-to-end": _end_to_end,
}
