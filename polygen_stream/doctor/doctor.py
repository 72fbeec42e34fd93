"""`polygen-stream doctor`: the whole examination, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

from polygen_stream.config import RunConfig
from polygen_stream.doctor.finding import Finding
from polygen_stream.doctor.machine import GIB, examine_gpus, examine_machine, installed_gpus
from polygen_stream.doctor.packages import examine_packages
from polygen_stream.doctor.weights import examine_micro_weights, examine_recipes
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring.memory import available_bytes


def examine(imports: bool = False) -> list[Finding]:
    """Examine this machine.

    Versions are read from the packages' metadata. Only where there is an NVIDIA GPU are packages started, to run a
    kernel on it.

    Args:
        imports: Import every installed package too, each in a process of its own; it takes seconds per package.
    """
    gpus = installed_gpus()
    findings = [*examine_machine(), *examine_gpus(gpus), *examine_packages(bool(gpus), imports)]
    findings += [examine_micro_weights(RunConfig()), *examine_recipes()]
    return [*findings, *_verdicts(findings, bool(gpus))]


def _verdicts(findings: Sequence[Finding], gpu: bool) -> list[Finding]:
    problems = [finding.item for finding in findings if finding.state == "problem"]
    needed, (available, _) = build_process_plan(RunConfig()).memory_bytes, available_bytes()
    if needed > available:
        problems.append(f"memory ({needed / GIB:.1f} GiB needed, {available / GIB:.1f} GiB available)")
    if problems:
        advice = f"mend first: {', '.join(problems)}"
        micro = Finding("run", "the micro preset", "problem", "cannot run", advice)
    else:
        micro = Finding("run", "the micro preset", "ok", "runs here: polygen-stream run")
    full = Finding("run", "full-size generators", "ok", "a GPU is here") if gpu else None
    return [micro, full or Finding("run", "full-size generators", "missing", "no GPU here")]
