"""A user's own module with a part of every kind, and what its author might get wrong. Written into a test's folder.

Caption source, objective, sampler and policy are the ones that docs/extending.md shows.
"""

from __future__ import annotations

import re
from pathlib import Path

EXTENDING = Path(__file__).resolve().parents[2] / "docs" / "extending.md"

BACKEND = '''
import shutil

import torch


class Backend:
    """ONNX Runtime once more, by another name."""

    package, extra, suffix, device, bf16, quantizes = "onnxruntime", "", ".mine", "cpu", False, False

    def target(self):
        return "any CPU"

    def flags(self):
        return "version 1"

    def runs_here(self):
        return True

    def compile(self, job):
        shutil.copy(job.graph, job.engine)

    def open(self, engines, options, threads):
        return {part: Session(path) for part, (path, _) in engines.items()}


class Session:
    def __init__(self, path):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(self, inputs):
        names = [output.name for output in self._session.get_outputs()]
        arrays = self._session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
'''

MISTAKES = """
from polygen_stream.captions.base import CaptionSource

NUMBER = 3


def loss(image_features, text_features):
    return None


class Lazy(CaptionSource):
    def __init__(self, config):
        self.config = config


class HalfBackend:
    package = suffix = device = extra = "half"


def raising():
    raise RuntimeError("no luck")


def no_source(config):
    return "captions"
"""


def write_parts(folder: Path) -> None:
    """Write my_parts.py and my_mistakes.py."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = re.findall(r"^```python\n(.*?)^```", EXTENDING.read_text(encoding="utf-8"), re.M | re.S)
    (folder / "my_parts.py").write_text("\n\n".join([*shown, BACKEND]))
    (folder / "my_mistakes.py").write_text(MISTAKES)
