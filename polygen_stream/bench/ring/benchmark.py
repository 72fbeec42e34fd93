"""`polygen-stream bench ring`: the ring beside its limit, a plain copy, and beside baselines.

JSON: ours, memcpy, baselines (by case: images_per_s, gb_per_s, of_limit), draw, contention, soak if requested;
machine, work, skipped, targets. A measurement is {"median", "spread" (between the quartiles), "n"}.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polygen_stream.base.errors import UserError
from polygen_stream.bench.baselines.memcpy import MAX_SLOTS
from polygen_stream.bench.baselines.registry import ALTERNATIVES, BASELINES, LIMIT, OURS, QUEUE, REVERB
from polygen_stream.bench.harness.process import BaselineProcess, interleave
from polygen_stream.bench.harness.workload import Work
from polygen_stream.bench.ring import draw
from polygen_stream.bench.ring.contention import PRODUCERS, measure_contention
from polygen_stream.bench.ring.soak import soak
from polygen_stream.bench.statistics import summarise
from polygen_stream.ring import memory

Say = Callable[[str], None]
LARGE, SMALL, PAPER = "224px", "32px", "256px, batch 16384"


@dataclass(frozen=True)
class RingBenchPlan:
    """What is measured: the cases of all baselines, the paper's batch for ring and limit only, and how often."""

    shared: dict[str, Work]
    paper: Work | None
    rounds: int
    paper_rounds: int
    draws: int
    growth: tuple[int, ...]
    producers: tuple[int, ...]
    contention_images: int


FULL = RingBenchPlan(
    shared={
        LARGE: Work(side=224, images=16_384, slots=2048),
        SMALL: Work(side=32, images=32_768, slots=4096),
    },
    paper=Work(side=256, images=32_768, slots=20_480, batch=16_384),
    rounds=7,
    paper_rounds=5,
    draws=60,
    growth=draw.GROWTH,
    producers=PRODUCERS,
    contention_images=16_384,
)
QUICK = RingBenchPlan(
    shared={
        LARGE: Work(side=224, images=256, slots=384, batch=128, read=128, producers=2),
        SMALL: Work(side=32, images=1024, slots=512, batch=128, read=128, producers=2),
    },
    paper=None,
    rounds=2,
    paper_rounds=0,
    draws=5,
    growth=(1024, 4096),
    producers=(1, 2),
    contention_images=1024,
)


def bench_ring(
    baselines: bool, quick: bool, soak_minutes: float | None, reverb_python: Path | None, say: Say
) -> dict[str, Any]:
    """Measure the ring.

    Args:
        baselines: Measure the alternatives too.
        quick: A short run, whose numbers mean little.
        soak_minutes: Also keep the ring busy for so many minutes; None: no.
        reverb_python: Interpreter that has dm-reverb; None: dm-reverb is skipped unless it is installed here.
        say: Called with a line of progress.

    Returns:
        The measurement, ready for JSON; see the top of this module.

    Raises:
        UserError: The machine has too little memory.
        BaselineFailed: A baseline damaged a sample, or died.
    """
    plan = QUICK if quick else FULL
    names, skipped = _choose(baselines, reverb_python)
    _check_memory(plan, 2 + len(names))
    pythons = {REVERB: str(reverb_python)} if reverb_python else {}
    result: dict[str, Any] = {
        "machine": machine(),
        "work": {case: asdict(work) for case, work in plan.shared.items()},
        "ours": {},
        "memcpy": {},
        "baselines": {name: {"note": BASELINES[name].note} for name in names},
        "skipped": skipped,
    }
    for case, work in plan.shared.items():
        measured = _measure(case, work, [OURS, LIMIT, *names], plan.rounds, pythons, say)
        _enter(result, case, work, measured)
    if plan.paper:
        result["work"][PAPER] = asdict(plan.paper)
        _enter(result, PAPER, plan.paper, _measure(PAPER, plan.paper, [OURS, LIMIT], plan.paper_rounds, {}, say))
    say("draw: a ring full of complete groups")
    result["draw"] = {
        "categories": draw.CATEGORIES,
        "one_image_a_caption": draw.measure_draw(plan.growth[-1] if quick else draw.SLOTS, 1, plan.draws),
        "four_images_a_caption": draw.measure_draw(plan.growth[-1] if quick else draw.SLOTS, 4, plan.draws),
        "growth": [_grow(slots, plan.draws, say) for slots in plan.growth],
    }
    say(f"contention: {', '.join(map(str, plan.producers))} producers")
    result["contention"] = measure_contention(plan.contention_images, plan.rounds, plan.producers)
    if soak_minutes is not None:
        result["soak"] = soak(plan.shared[LARGE], soak_minutes, say)
    result["machine"]["load_at_end"] = os.getloadavg()[0]
    result["targets"] = targets(result)
    return result


def _choose(wanted: bool, reverb_python: Path | None) -> tuple[list[str], dict[str, str]]:
    """Return the names of the alternatives to measure, and why each of the others is skipped."""
    if not wanted:
        return [], {}
    names, skipped = [], {}
    for name in ALTERNATIVES:
        if (name == REVERB and reverb_python) or BASELINES[name].installed:
            names.append(name)
        elif name == REVERB:
            skipped[name] = "pins TensorFlow 2.15 and numpy 1: install it into a venv of its own, --reverb-python"
        else:
            skipped[name] = f"not installed: pip install {BASELINES[name].package}"
    return names, skipped


def _check_memory(plan: RingBenchPlan, baselines: int) -> None:
    """Refuse a plan that does not fit into memory, before anything starts."""
    needs = [baselines * (work.slots + 2 * work.read) * work.image_bytes for work in plan.shared.values()]
    if plan.paper:
        needs.append((plan.paper.slots + MAX_SLOTS + 2 * plan.paper.read) * plan.paper.image_bytes)
    available, source = memory.available_bytes()
    if max(needs) > available:
        raise UserError(
            f"bench ring needs about {max(needs) / 2**30:.1f} GiB of memory but only {available / 2**30:.1f} GiB are "
            f"available ({source}); use --quick"
        )


def _measure(
    case: str, work: Work, names: list[str], rounds: int, pythons: dict[str, str], say: Say
) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of `rounds` rounds by name; the baselines take turns."""
    with ExitStack() as stack:
        processes = []
        for name in names:
            say(f"{case}: starting {name}")
            process = BaselineProcess(BASELINES[name], work, pythons.get(name, sys.executable))
            processes.append(stack.enter_context(process))
        say(f"{case}: {rounds} rounds of {work.images} images, {len(names)} in turn")
        return dict(zip(names, interleave(processes, rounds), strict=True))


def _enter(result: dict[str, Any], case: str, work: Work, measured: dict[str, list[dict[str, Any]]]) -> None:
    rates = {
        name: np.array([work.images / answer["seconds"] for answer in answers]) for name, answers in measured.items()
    }
    for name, values in rates.items():
        entry: dict[str, Any] = {"images_per_s": summarise(values)}
        entry["gb_per_s"] = entry["images_per_s"]["median"] * work.image_bytes / 1e9
        # Rounds with the same number ran close in time: their ratio varies less than their rates.
        entry["of_limit"] = summarise(values / rates[LIMIT])
        place = {OURS: result["ours"], LIMIT: result["memcpy"]}.get(name)
        (result["baselines"][name] if place is None else place)[case] = entry


def _grow(slots: int, draws: int, say: Say) -> dict[str, Any]:
    say(f"draw: {slots} slots")
    return draw.measure_draw(slots, 1, draws)


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets of the ring beside what was measured."""
    ours = result["ours"][LARGE]
    hardest = result["draw"]["one_image_a_caption"]
    found = [
        _at_least("224 px: share of the limit", ours["of_limit"]["median"], 0.7),
        _at_most(f"draw of 512 from {hardest['slots']:,} slots: ms under the mutex", hardest["held_ms"]["median"], 1.0),
    ]
    for name, cases in result["baselines"].items():
        times = ours["images_per_s"]["median"] / cases[LARGE]["images_per_s"]["median"]
        found.append(_at_least(f"224 px: times {name}", times, 5.0 if name == QUEUE else 1.0))
    return found


def _at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "measured": value, "target": f">= {bound:g}", "met": value >= bound}


def _at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "measured": value, "target": f"<= {bound:g}", "met": value <= bound}


def machine() -> dict[str, Any]:
    """Return what identifies this machine, the time, its load and the command; ready for JSON."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "load_at_start": os.getloadavg()[0],
        "command": " ".join(["polygen-stream", *sys.argv[1:]]),
    }
