"""TensorRT and TensorRT-RTX: one builder, one runtime; `Flavour` holds what differs.

The precision is the graph's (strongly typed networks): nothing here casts or calibrates. Plans of TensorRT are built
and run on the GPU they are for. TensorRT-RTX builds ahead of time, with no GPU, for the architecture asked for; such a
plan proves that the graph parses and compiles, and says nothing of accuracy or speed.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygen_stream.errors import PolygenError, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from polygen_stream.engine.profile import Profile


@dataclass(frozen=True)
class Flavour:
    """What tells the two libraries apart; their Python interfaces are the same otherwise."""

    module: str
    package: str  # distribution, and extra of polygen-stream
    ahead_of_time: bool  # builds for a chosen architecture, with no GPU


TENSORRT = Flavour("tensorrt", "tensorrt", ahead_of_time=False)
TENSORRT_RTX = Flavour("tensorrt_rtx", "tensorrt-rtx", ahead_of_time=True)


class TensorRt:
    """A TensorRT library as a backend.

    Args:
        capability: architecture to build for, e.g. "SM89"; None is this machine's GPU.
    """

    suffix = ".plan"
    device = "cuda"
    bf16 = False  # the graph's types decide

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
        if self.flavour.ahead_of_time:
            return self.capability or gpu().capability
        return str(gpu())

    def flags(self) -> str:
        return "strongly typed"

    def runs_here(self) -> bool:
        try:
            return self.capability in (None, gpu().capability)
        except UserError:
            return False

    def compile(self, graph: Path, engine: Path, profile: Profile) -> None:
        trt = self._library()
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(graph)):
            problems = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise PolygenError(f"{self.package} cannot parse {graph.name}: {problems}")
        config = builder.create_builder_config()
        if self.capability:
            # No timing cache: asking for one asks for a GPU.
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(trt.ComputeCapability, self.capability), 0)
        shapes = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            name = network.get_input(index).name
            shapes.set_shape(name, *((rows, *profile.shapes[name]) for rows in profile.rows))
        config.add_optimization_profile(shapes)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise PolygenError(f"{self.package} cannot build {graph.name} for {self.target()}: its log above says why")
        engine.write_bytes(plan)

    def open(self, engine: Path, profile: Profile, threads: int) -> TensorRtSession:
        return TensorRtSession(self._library(), engine, profile)

    def _library(self) -> Any:
        try:
            return importlib.import_module(self.flavour.module)
        except ImportError as problem:
            raise UserError(
                f"{self.package} does not load ({problem}): pip install 'polygen-stream[{self.extra}]'"
            ) from None


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: name, architecture ("SM80"), driver version."""

    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} {self.capability} driver {self.driver}"


def gpu() -> Gpu:
    """This machine's current CUDA device.

    Raises:
        UserError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("no NVIDIA GPU here: build on the GPU node, or with --backend tensorrt-rtx --target SM89")
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    major, minor = torch.cuda.get_device_capability()
    return Gpu(torch.cuda.get_device_name(), f"SM{major}{minor}", driver)


@dataclass(frozen=True)
class Binding:
    """One tensor of a call as the driver gets it."""

    name: str
    shape: tuple[int, ...]
    tensor: Any  # on the device, of the engine's type


def bind(inputs: Mapping[str, Tensor], profile: Profile) -> list[Binding]:
    """The inputs of a call as an engine takes them: its names, its types, rows within its profile.

    Raises:
        PolygenError: a name too few or too many, a row of another shape, or a number of rows outside the profile.
    """
    import torch

    if set(inputs) != set(profile.shapes):
        raise PolygenError(f"the engine takes {sorted(profile.shapes)}, the pipeline gives {sorted(inputs)}")
    fewest, _, most = profile.rows
    bindings = []
    for name, tensor in inputs.items():
        rows, *shape = tensor.shape
        if tuple(shape) != tuple(profile.shapes[name]) or not fewest <= rows <= most:
            raise PolygenError(
                f"{name}: the engine takes {fewest} to {most} rows of {list(profile.shapes[name])}, "
                f"the pipeline gives {rows} of {shape}: rebuild it for this size"
            )
        tensor = tensor.to(getattr(torch, profile.dtypes[name])).contiguous()
        bindings.append(Binding(name, tuple(tensor.shape), tensor))
    return bindings


class TensorRtSession:
    """A plan on the current CUDA device; runs on torch's current stream, on torch's own memory."""

    def __init__(self, trt: Any, engine: Path, profile: Profile) -> None:
        self._profile = profile
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise PolygenError(f"{engine} does not load here: rebuild it on this machine")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._outputs = {
            name: _torch_type(trt, self._engine.get_tensor_dtype(name))
            for name in names
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        }

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from polygen_stream.engine.batching import run_in_sizes

        fewest, _, most = self._profile.rows
        return run_in_sizes(self._run, inputs, range(fewest, most + 1))

    def _run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        import torch

        for binding in (bound := bind(inputs, self._profile)):
            self._context.set_input_shape(binding.name, binding.shape)
            self._context.set_tensor_address(binding.name, binding.tensor.data_ptr())
        outputs = {
            name: torch.empty(tuple(self._context.get_tensor_shape(name)), dtype=dtype, device=bound[0].tensor.device)
            for name, dtype in self._outputs.items()
        }
        for name, tensor in outputs.items():
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise PolygenError("TensorRT refused to run: its log above says why")
        return outputs


def _torch_type(trt: Any, dtype: Any) -> Any:
    import torch

    return {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.INT64: torch.int64,
        trt.DataType.INT32: torch.int32,
        trt.DataType.BOOL: torch.bool,
    }[dtype]
