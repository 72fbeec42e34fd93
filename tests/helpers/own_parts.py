"""A user's own module with a part of every kind, and what its author might get wrong. Written into a test's folder."""

from __future__ import annotations

from pathlib import Path

PARTS = '''
"""Parts outside of the package."""

import shutil

import numpy as np
import torch

from polygen_stream.captions.base import Caption, CaptionSource


class Source(CaptionSource):
    """Writes what it is told to, about two things."""

    concepts = ("circle", "square")
    axes = ("colour",)

    def __init__(self, config):
        self.style, self._waiting = config.writer, []

    @property
    def provenance(self):
        return {"writer": "my_parts.Source", "style": self.style}

    @property
    def pending(self):
        return len(self._waiting)

    def submit(self, task, with_negative):
        text = f"a red {task.concept} number {task.task_id}"
        negative = text.replace("red", "blue") if with_negative else None
        self._waiting.append(Caption(text, negative, task.axis if with_negative else None))

    def collect(self):
        written, self._waiting = self._waiting, []
        return written


def objective(image_features, text_features, logit_scale, index, *, image_image_features, config, group):
    """Every image against all texts, without hard negatives of images."""
    logits = logit_scale * image_features.float() @ text_features.float().T
    loss = torch.nn.functional.cross_entropy(logits, index.image_text)
    return loss, {"mine": loss}


def newest(groups, seed, step, plain, pair, first):
    """The groups that were opened last."""
    from polygen_stream.ring.records import Kind
    from polygen_stream.ring.sampler import Shortage

    order = np.flatnonzero(groups.drawable)
    order = order[np.argsort(-groups.task[order], kind="stable")]
    pairs = order[groups.kind[order] == Kind.PAIR][:pair]
    plains = order[~np.isin(order, pairs)][:plain]
    if pairs.size < pair:
        return Shortage(Kind.PAIR, pair, pairs.size)
    return (plains, pairs) if plains.size == plain else Shortage(Kind.PLAIN, plain, plains.size)


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
    (folder / "my_parts.py").write_text(PARTS)
    (folder / "my_mistakes.py").write_text(MISTAKES)
