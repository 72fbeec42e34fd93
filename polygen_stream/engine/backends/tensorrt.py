"""TensorRT and TensorRT-RTX as a backend: one builder for both; `Flavour` holds what differs.

The precision is the graph's (strongly typed networks): nothing here casts or calibrates. Plans of TensorRT are built
and run on the GPU they are for. TensorRT-RTX builds ahead of time, with no GPU, for the architecture asked for; such a
plan proves that the graph parses and compiles, and says nothing of accuracy or speed.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.engine.backends.base import Job, Session, installed_version
from polygen_stream.engine.backends.gpu import gpu
from polygen_stream.engine.backends.timing_cache import timing_cache

if TYPE_CHECKING:
    from polygen_stream.engine.profile import Profile
    from polygen_stream.generators.recipe import TensorRtSpec


@dataclass(frozen=True)
class Flavour:
    """What tells the two libraries apart; their Python interfaces are the same otherwise."""

    module: str
    package: str  # distribution, and extra of polygen-stream
    ahead_of_time: bool  # builds for a chosen architecture, with no GPU
    timing_cache: bool  # chooses kernels by measuring them; RTX does not, and asking for a cache asks for a GPU


TENSORRT = Flavour("tensorrt", "tensorrt", ahead_of_time=False, timing_cache=True)
TENSORRT_RTX = Flavour("tensorrt_rtx", "tensorrt-rtx", ahead_of_time=True, timing_cache=False)


class TensorRt:
    """A TensorRT library as a backend.

    Args:
        capability: architecture to build for, e.g. "SM89"; None is this machine's GPU.
    """

    suffix = ".plan"
    device = "cuda"
    bf16 = False  # the graph's types decide
    quantizes = True

    def __init__(self, flavour: Flavour, capability: str | None = None) -> None:
        self.flavour, self.capability = flavour, capability
        self.package = self.extra = flavour.package

    def aimed_at(self, capability: str) -> TensorRt:
        """The same backend for another architecture.

        Raises:
            UserError: this library builds on and for the GPU at hand only, or does not know the architecture.
        """
        if not self.flavour.ahead_of_time:
            raise UserError(f"{self.package} builds on the GPU it is for: leave --target {capability} away")
        known = [name for name in dir(self._library().ComputeCapability) if name.startswith("SM")]
        if capability not in known:
            raise UserError(f"{self.package} cannot build for {capability!r}: choose from {', '.join(known)}")
        return TensorRt(self.flavour, capability)

    def target(self) -> str:
        """Return the hardware that plans are built for.

        Returns:
            For TensorRT-RTX the architecture, e.g. "SM89"; for TensorRT the GPU's name, architecture and driver.

        Raises:
            UserError: This machine's GPU is asked for, and there is none.
        """
        if self.flavour.ahead_of_time:
            return self.capability or gpu().capability
        return str(gpu())

    def flags(self) -> str:
        """Return the build settings that enter the engine's key."""
        return "strongly typed, no TF32"

    def runs_here(self) -> bool:
        """Return whether this machine has a GPU of the architecture that plans are built for."""
        try:
            return self.capability in (None, gpu().capability)
        except UserError:
            return False

    def compile(self, job: Job) -> None:
        """Make the plan of one part, from an existing plan and new weights where that is possible.

        Args:
            job: The graph to compile, the file to write and the settings.

        Raises:
            UserError: The library does not load, or a plan for refitting is asked for without the GPU it is for.
            PolygenError: The graph cannot be parsed or built, or the existing plan does not load.
        """
        if job.options.refit and not self.runs_here():
            raise UserError(
                f"{self.package} makes plans for refitting on a GPU only: build for {self.capability} where there is "
                "one, or leave engine.tensorrt.refit out"
            )
        if job.base is None or not self.runs_here() or not self._refit(job):
            self._build(job)

    def _build(self, job: Job) -> None:
        """Make the plan from nothing but the graph."""
        trt = self._library()
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(job.graph)):
            raise PolygenError(f"{self.package} cannot parse {job.graph.name}: {_problems(parser)}")
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: float32 parts would be compared with a rounded eager
        if self.capability:
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, self.capability), 0)
        if job.options.optimization_level is not None:
            config.builder_optimization_level = job.options.optimization_level
        if job.options.refit:
            config.set_flag(trt.BuilderFlag.REFIT)
        shapes = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            name = network.get_input(index).name
            shapes.set_shape(name, *((rows, *job.profile.shapes[name]) for rows in job.profile.rows))
        config.add_optimization_profile(shapes)
        timings = timing_cache(config, self._timings(job.keep)) if self.flavour.timing_cache else nullcontext()
        with timings, job.engine.open("wb") as stream:
            # Piece by piece: a plan in one piece would hold the weights once more in memory.
            built = builder.build_serialized_network_to_stream(network, config, _writer(trt, stream))
        if not built:
            raise PolygenError(f"{self.package} cannot build {job.graph.name} for {self.target()}: its log says why")

    def _refit(self, job: Job) -> bool:
        """Make it of the base's plan and the graph's weights: seconds, where a build takes minutes.

        Returns:
            False if the plan does not take them all, for instance where a weight was folded into something else.
        """
        trt = self._library()
        logger = trt.Logger(trt.Logger.ERROR)
        assert job.base is not None, "only a job with a base is refitted"
        engine = trt.Runtime(logger).deserialize_cuda_engine(job.base.read_bytes())
        if engine is None:
            raise PolygenError(f"{job.base} does not load here: remove it with build-engines --collect")
        refitter = trt.Refitter(engine, logger)
        parser = trt.OnnxParserRefitter(refitter, logger)
        if parser.refit_from_file(str(job.graph)) and refitter.refit_cuda_engine():
            job.engine.write_bytes(engine.serialize())
            return True
        logging.warning("%s takes no other weights, it is built anew: %s", job.base, _problems(parser))
        return False

    def _timings(self, keep: Path) -> Path:
        measured_on = hashlib.sha256(f"{self.package} {installed_version(self)} {gpu()}".encode()).hexdigest()
        return keep / f"{self.package}-{measured_on[:16]}.timings"

    def open(
        self, engines: Mapping[str, tuple[Path, Profile]], options: TensorRtSpec, threads: int
    ) -> Mapping[str, Session]:
        """Load a generator's plans onto the GPU.

        Args:
            engines: By part the plan's file, and the shapes and types it was built for.
            options: The recipe's [engine.tensorrt] table; decides whether calls are recorded as CUDA graphs.
            threads: Not used.

        Returns:
            A session for each part; all share one block of scratch memory.

        Raises:
            UserError: The library does not load.
            PolygenError: A plan does not load on this machine.
        """
        from polygen_stream.engine.backends.tensorrt_runtime import open_plans

        return open_plans(self._library(), engines, options.cuda_graphs)

    def _library(self) -> Any:
        try:
            return importlib.import_module(self.flavour.module)
        except ImportError as problem:
            raise UserError(
                f"{self.package} does not load ({problem}): pip install 'polygen-stream[{self.extra}]'"
            ) from None


def tensorrt() -> TensorRt:
    """Return the backend of generators.backend = "tensorrt"."""
    return TensorRt(TENSORRT)


def tensorrt_rtx() -> TensorRt:
    """Return the backend of generators.backend = "tensorrt-rtx"."""
    return TensorRt(TENSORRT_RTX)


def _writer(trt: Any, stream: BinaryIO) -> Any:
    """A file as TensorRT's IStreamWriter."""

    class Writer(trt.IStreamWriter):
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)  # super() would not tell pybind11's half of the object

        def write(self, data: bytes) -> int:
            return stream.write(data)

    return Writer()


def _problems(parser: Any) -> str:
    return "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
