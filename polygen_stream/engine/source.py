"""What the engines of a generator are made from: its modules, calls of them, their graphs; made when asked for."""

from __future__ import annotations

import gc
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polygen_stream.base.errors import PolygenError
from polygen_stream.engine import parity
from polygen_stream.engine.backends.base import Session
from polygen_stream.engine.examples import example_call
from polygen_stream.engine.export import export_part
from polygen_stream.engine.memory import peak_mib, reset_peak
from polygen_stream.engine.parts import part_of
from polygen_stream.engine.profile import Profile
from polygen_stream.engine.quantize import quantize_graph
from polygen_stream.engine.random_weights import random_module
from polygen_stream.engine.record import Inputs, recording
from polygen_stream.engine.runtime import install
from polygen_stream.generators.pipelines import Generator, load_generator
from polygen_stream.generators.recipe import Recipe

PICTURES = len(parity.CAPTIONS)  # of an example call


@dataclass(frozen=True)
class Stage:
    """A finished piece of work."""

    name: str
    seconds: float
    cpu_seconds: float  # of all threads: the steadier figure where others use the machine
    peak_mib: int  # of this process while it went on


class Source(ABC):
    """Parts by name, with example calls that are made up.

    Args:
        folder: gets the graphs.
        say: gets a line of progress now and then.
        device: where the modules are, and the tensors of the calls.
    """

    def __init__(self, recipe: Recipe, folder: Path, say: Callable[[str], None], device: str) -> None:
        assert recipe.engine is not None
        self.recipe, self.spec, self.folder, self.say, self.device = recipe, recipe.engine, folder, say, device
        self.stages: list[Stage] = []
        self.parameters: dict[str, int] = {}  # of the parts that were exported
        self._calls: dict[str, list[Inputs]] = {}

    @abstractmethod
    def module(self, part: str) -> torch.nn.Module:
        """The part as a torch module."""

    def release(self, part: str) -> None:  # noqa: B027 - most sources keep theirs
        """The graph of a part is written: its module is not needed for a while."""

    def compare_pictures(self, sessions: Mapping[str, Session], look: Path) -> dict[str, float]:
        """{"pictures": largest difference from eager}, or nothing where there are no pictures."""
        return {}

    def calls(self, part: str) -> list[Inputs]:
        """Calls of a part, to export it with and to compare."""
        if part not in self._calls:
            call = example_call(self.recipe, self.module(part), PICTURES)
            self._calls[part] = [{name: tensor.to(self.device) for name, tensor in call.items()}]
        return self._calls[part]

    def graph(self, part: str) -> Path:
        """The part's ONNX file."""
        path = self.folder / f"{part}.onnx"
        if not path.exists():
            module, call = self.module(part), self.calls(part)[0]
            self.parameters[part] = sum(parameter.numel() for parameter in module.parameters())
            with self.stage(f"export {part}"):
                export_part(part_of(module), module, call, path, part in self.spec.float32_attention)
            del module
            self.release(part)
        return path

    def quantized(self, part: str) -> Path:
        """The ONNX file of a part that the recipe quantises."""
        graph, kind = self.graph(part), self.spec.tensorrt.quantize[part]
        path = graph.with_name(f"{part}.{kind}.onnx")
        if not path.exists():
            with self.stage(f"quantize {part}"):
                quantize_graph(graph, self.calls(part), kind, path)
        return path

    def profile(self, part: str, bf16: bool) -> Profile:
        """Return the shapes and types of a part's inputs, and the numbers of rows that the recipe's batch sizes make.

        Args:
            part: Name of the part.
            bf16: Whether the engine computes in bfloat16 inside.
        """
        inputs: Mapping[str, torch.Tensor] = self.calls(part)[0]
        per_picture = len(next(iter(inputs.values()))) // PICTURES
        fewest, usual, most = self.spec.batch
        return Profile(
            rows=(fewest * per_picture, usual * per_picture, most * per_picture),
            shapes={name: tuple(tensor.shape[1:]) for name, tensor in inputs.items()},
            dtypes={name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()},
            bf16=bf16,
        )

    @torch.inference_mode()
    def compare(self, name: str, session: Session) -> float:
        """A part's largest difference from eager, in its calls and in a row of each.

        Raises:
            ParityError: A value of the engine's is not finite, or an output of another shape.
        """
        module = self.module(name)
        part, worst = part_of(module), 0.0
        # A GPU's convolutions of float32 are TF32 by default, and the engine's are not.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for inputs in self.calls(name):
                single = {key: tensor[:1].contiguous() for key, tensor in inputs.items()}
                for rows in (inputs, single):
                    expected = part.call(module, rows)
                    worst = max(worst, parity.part_difference(name, expected, session.run(rows)))
        return worst

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what happens, how long it took and in how much memory; a library's exception gets the stage's name."""
        self.say(name)
        began, began_cpu = time.monotonic(), time.process_time()
        reset_peak()
        try:
            yield
        except PolygenError:
            raise
        except Exception as problem:
            logging.exception("%s: %s", self.recipe.name, name)
            raise PolygenError(f"{self.recipe.name}: {name}: {type(problem).__name__}: {problem}") from None
        finally:
            wall, cpu = time.monotonic() - began, time.process_time() - began_cpu
            self.stages.append(Stage(name, round(wall, 2), round(cpu, 2), peak_mib()))


class RandomSource(Source):
    """Real architectures with random weights, one part in memory at a time."""

    def __init__(self, recipe: Recipe, folder: Path, say: Callable[[str], None], device: str) -> None:
        super().__init__(recipe, folder, say, device)
        self._held: tuple[str, torch.nn.Module] | None = None

    def module(self, part: str) -> torch.nn.Module:
        """Return the part with random weights; the part held before is freed."""
        if self._held is None or self._held[0] != part:
            self.release(part)
            with self.stage(f"random weights of {part}"):
                self._held = part, random_module(self.recipe, part).to(self.device)
        return self._held[1]

    def release(self, part: str) -> None:
        """Free the part's module."""
        self._held = None
        gc.collect()  # an exported program refers to itself


class LoadedSource(Source):
    """The generator with its own weights, for engines that do not run on this machine."""

    def __init__(self, recipe: Recipe, folder: Path, say: Callable[[str], None], device: str) -> None:
        super().__init__(recipe, folder, say, device)
        self._generator: Generator | None = None

    @property
    def generator(self) -> Generator:
        """The generator, loaded on first use."""
        if self._generator is None:
            with self.stage("load"):
                self._generator = load_generator(self.recipe, self.device)
        return self._generator

    def module(self, part: str) -> torch.nn.Module:
        """Return the part of the generator's pipeline."""
        return getattr(self.generator.pipeline, part)


class RenderedSource(LoadedSource):
    """The same where the engines run: calls are recorded while it renders, and its pictures are the reference."""

    def __init__(self, recipe: Recipe, folder: Path, say: Callable[[str], None], device: str) -> None:
        super().__init__(recipe, folder, say, device)
        self._pictures: np.ndarray | None = None

    def calls(self, part: str) -> list[Inputs]:
        """Return the part's calls, recorded while the generator renders the example captions."""
        if self._pictures is None:
            generator = self.generator
            with self.stage("eager"), recording(generator.pipeline, self.spec.parts) as calls:
                self._pictures = generator.render(parity.CAPTIONS, parity.SEEDS)
            self._calls = calls
        return self._calls[part]

    def compare_pictures(self, sessions: Mapping[str, Session], look: Path) -> dict[str, float]:
        """Render the example captions with the engines and compare the pictures with eager's.

        Args:
            sessions: By part.
            look: Gets both as a PNG file, eager's above the engines'.

        Returns:
            {"pictures": mean absolute difference of the worst picture, in grey levels (0 to 255)}.

        Raises:
            ParityError: A picture is black or constant.
        """
        assert self._pictures is not None, "parts are compared first, by calls recorded while these were rendered"
        compiled = load_generator(self.recipe, self.device)
        install(compiled, sessions)
        got = compiled.render(parity.CAPTIONS, parity.SEEDS)
        parity.side_by_side(self._pictures, got).save(look)
        return {"pictures": parity.picture_difference(self._pictures, got)}
