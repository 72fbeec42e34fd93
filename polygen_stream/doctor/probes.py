"""Programs that try a package in a process of its own, with a deadline.

Finding a package on disk says little: a wheel for another CUDA, a missing shared library or a version conflict only
shows when it is used. A crash or a hang of the package must not reach the caller, hence the process.
"""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from typing import Literal

from polygen_stream.base.python import python_command

TIMEOUT_S = 120.0

# A kernel of each package that computes on GPUs; the last line of standard output is the answer.
KERNELS = {
    "torch": """
import torch
found = []
for index in range(torch.cuda.device_count()):
    ones = torch.ones(256, 256, device=f"cuda:{index}")
    if (ones @ ones).sum().item() != 256**3:
        raise SystemExit(f"wrong product on cuda:{index}")
    found.append(f"cuda:{index}")
if not found:
    raise SystemExit(f"torch {torch.__version__} sees no GPU (built for CUDA {torch.version.cuda})")
print(f"{torch.__version__} multiplies matrices on", ", ".join(found))
""",
    "xformers": """
import torch, xformers, xformers.ops
x = torch.randn(1, 64, 2, 32, device="cuda", dtype=torch.float16)
if not xformers.ops.memory_efficient_attention(x, x, x).isfinite().all().item():
    raise SystemExit("attention is not finite")
print(f"{xformers.__version__} computes attention")
""",
    "tensorrt": """
import tensorrt
if not tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR)):
    raise SystemExit("no builder")
print(f"{tensorrt.__version__} starts a builder")
""",
}

# Imports of what a run uses of each package.
IMPORTS = {
    "torch": "import torch",
    "torchvision": "import torchvision.transforms.v2",
    "open_clip": "import open_clip",
    "diffusers": "import diffusers; diffusers.StableDiffusionPipeline, diffusers.SanaPipeline",
    "transformers": "import transformers; transformers.CLIPTextModel",
    "torchdata": "import torchdata.nodes",
    "vllm": "import vllm; vllm.LLM",
    "openai": "import openai; openai.OpenAI",
    "tensorrt": "import tensorrt; tensorrt.Logger()",
    "tensorrt_rtx": "import tensorrt_rtx; tensorrt_rtx.Logger()",
    "xformers": "import xformers.ops",
    "onnxruntime": "import onnxruntime; onnxruntime.InferenceSession",
    "onnx": "import onnx, onnxscript",
    "openvino": "import openvino; openvino.Core()",
    "ray": "import ray",
    "webdataset": "import webdataset",
    "prometheus_client": "import prometheus_client",
    "pandas": "import pandas",
    "simpy": "import simpy",
    "resvg_py": "import resvg_py",
}


@dataclass(frozen=True)
class Answer:
    """What a probe said.

    Attributes:
        state: "works"; "broken": it raised or died; "slow": it did not end within the deadline.
        text: The probe's last line, or one line on what went wrong.
    """

    state: Literal["works", "broken", "slow"]
    text: str


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be found, without importing it."""
    return importlib.util.find_spec(module) is not None


def run_probe(source: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Run a program in a fresh interpreter.

    Args:
        source: Python source.
        timeout_s: Deadline in seconds.
    """
    try:
        done = subprocess.run(
            python_command("-c", source),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return Answer("slow", f"did not end within {timeout_s:g} s")
    if done.returncode:
        return Answer("broken", _last_line(done.stderr) or f"ended with exit code {done.returncode}")
    return Answer("works", _last_line(done.stdout))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
