"""Does a package really work here? Each probe imports it in a process of its own, with a deadline.

Finding a package on disk says little: a wheel for another CUDA, a missing shared library or a version conflict
only shows on import, and an import that crashes or hangs must not take the caller along.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from polygen_stream.base.nvidia_smi import NoNvidiaSmi, query_gpus

TIMEOUT_S = 120.0

# What each package is asked to say about itself; the last line of standard output counts.
QUESTIONS = {
    "torch": "import torch; gpu = torch.cuda.is_available(); "
    "print(torch.__version__, f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPU build', "
    "'sees ' + str(torch.cuda.device_count()) + ' GPU' if gpu else 'sees no GPU', sep=', ')",
    "torchvision": "import torchvision.transforms.v2; print(torchvision.__version__)",
    "open_clip": "import open_clip; print(open_clip.__version__)",
    "diffusers": "import diffusers; diffusers.StableDiffusionPipeline, diffusers.SanaPipeline; "
    "print(diffusers.__version__)",
    "transformers": "import transformers; transformers.CLIPTextModel; print(transformers.__version__)",
    "torchdata": "import torchdata.nodes; print(torchdata.__version__)",
    "vllm": "import vllm; vllm.LLM; print(vllm.__version__)",
    "tensorrt": "import tensorrt; tensorrt.Logger(); print(tensorrt.__version__)",
    "tensorrt_rtx": "import tensorrt_rtx; tensorrt_rtx.Logger(); print(tensorrt_rtx.__version__)",
    "onnxruntime": "import onnxruntime as o; print(o.__version__, ' '.join(o.get_available_providers()))",
    "onnx": "import onnx, onnxscript; print(onnx.__version__)",
    "openvino": "import openvino as o; print(o.__version__, ' '.join(o.Core().available_devices))",
    "xformers": "import xformers.ops; print(xformers.__version__)",
    "ray": "import ray; print(ray.__version__)",
    "webdataset": "import webdataset; print(webdataset.__version__)",
    "prometheus_client": "import prometheus_client; from importlib.metadata import version; "
    "print(version('prometheus_client'))",
}


@dataclass(frozen=True)
class Answer:
    """`text` is the version when it works, else one line on what went wrong."""

    state: Literal["works", "absent", "broken", "slow"]
    text: str


def ask(module: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Import `module` (a key of QUESTIONS) in a fresh interpreter."""
    if importlib.util.find_spec(module) is None:
        return Answer("absent", "not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-c", QUESTIONS[module]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return Answer("slow", f"import did not end within {timeout_s:.0f} s")
    if done.returncode:
        return Answer("broken", _last(done.stderr) or f"import ended with exit code {done.returncode}")
    return Answer("works", _last(done.stdout))


def gpus() -> list[str]:
    """One line per NVIDIA GPU: name, memory, compute capability. Empty without a driver."""
    try:
        found = query_gpus("name", "memory.total", "compute_cap")
    except NoNvidiaSmi:
        return []
    return [f"{name}, {memory}{' MiB' if memory.isdigit() else ''}, {capability}" for name, memory, capability in found]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
